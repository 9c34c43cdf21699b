use super::*;

fn exposed(topology: &Topology) -> Option<String> {
    topology.exposed_server().expect("the URLs are well formed")
}

fn single(url: &str) -> Option<String> {
    exposed(&Topology::Single { url: url.to_owned() })
}

fn behind(sentinel: &str, node_url: Option<&str>) -> Option<String> {
    exposed(&Topology::Sentinel {
        urls: vec![sentinel.to_owned()],
        service: "counters".to_owned(),
        node_url: node_url.map(str::to_owned),
    })
}

#[test]
fn a_server_elsewhere_is_exposed_unless_it_proves_who_it_is() {
    assert_eq!(single("redis://user:secret@redis.internal:6380/2").as_deref(), Some("redis.internal:6380"));
    assert_eq!(single("rediss://redis.internal/#insecure").as_deref(), Some("redis.internal:6379"));
    assert_eq!(single("rediss://user:secret@redis.internal"), None);
    for here in ["redis://localhost", "redis://127.0.0.1:7000", "redis://[::1]/", "redis+unix:///run/redis"] {
        assert_eq!(single(here), None, "{here}");
    }
}

#[test]
fn every_node_of_a_cluster_counts() {
    let urls = ["rediss://one", "redis://two:7001"].map(str::to_owned).to_vec();
    assert_eq!(exposed(&Topology::Cluster { urls }).as_deref(), Some("two:7001"));
}

#[test]
fn servers_behind_sentinels_elsewhere_need_tls_of_their_own() {
    assert_eq!(behind("rediss://sentinel", None).as_deref(), Some("counters"));
    assert_eq!(behind("rediss://sentinel", Some("redis://any")).as_deref(), Some("counters"));
    assert_eq!(behind("rediss://sentinel", Some("rediss://user:secret@any")), None);
    assert_eq!(behind("redis://127.0.0.1:26379", None), None);
}

#[test]
fn a_malformed_url_is_refused() {
    assert!(Topology::Single { url: "redis://".to_owned() }.exposed_server().is_err());
}
