//! What every store of counters promises.

mod alone {
    use crate::backend::RedisBackend;

    rateguard_store_suite::counter_store_suite!(RedisBackend::alone());
}

mod spread_over_a_cluster {
    use crate::backend::RedisBackend;

    rateguard_store_suite::counter_store_suite!(RedisBackend::cluster().spread());
}

mod on_a_cluster {
    use crate::backend::RedisBackend;

    rateguard_store_suite::counter_store_suite!(RedisBackend::cluster());
}
