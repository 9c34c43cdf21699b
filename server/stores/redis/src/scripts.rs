//! The scripts, each put together from its parts. Their names are hashes of what they say, so that a
//! version of this program never runs the script of another.

use std::sync::LazyLock;

use redis::{Cmd, Script, cmd};

/// A script with its name.
pub(crate) struct NamedScript {
    code: &'static str,
    hash: String,
}

/// A script of the parts that all decisions need, and others behind them.
macro_rules! over_counters {
    ($($part:literal),+) => {
        LazyLock::new(|| {
            NamedScript::new(concat!(
                include_str!("scripts/numbers.lua"),
                include_str!("scripts/counters.lua"),
                include_str!("scripts/books.lua"),
                include_str!("scripts/workspace.lua"),
                include_str!("scripts/reservations.lua"),
                $(include_str!($part)),+
            ))
        })
    };
}

/// Decides a check.
pub(crate) static CHECK: LazyLock<NamedScript> = over_counters!("scripts/ids.lua", "scripts/check.lua");

/// Ends and takes leases.
pub(crate) static LEASE: LazyLock<NamedScript> = over_counters!("scripts/lease.lua");

/// Undoes an attempt at a check.
pub(crate) static CANCEL: LazyLock<NamedScript> = over_counters!("scripts/ids.lua", "scripts/cancel.lua");

/// Gives out the slots of replicas.
pub(crate) static SLOTS: LazyLock<NamedScript> =
    LazyLock::new(|| NamedScript::new(include_str!("scripts/slots.lua")));

/// Settles records.
pub(crate) static SETTLE: LazyLock<NamedScript> = over_counters!("scripts/settle.lua");

/// Does everything else.
pub(crate) static TEND: LazyLock<NamedScript> = over_counters!("scripts/tend.lua");

impl NamedScript {
    fn new(code: &'static str) -> Self {
        Self { code, hash: Script::new(code).get_hash().to_owned() }
    }

    /// The call of a script that the server knows.
    pub(crate) fn by_name(&self, keys: &[String], arguments: &[&[u8]]) -> Cmd {
        call("EVALSHA", &self.hash, keys, arguments)
    }

    /// The call that also teaches the server the script.
    pub(crate) fn by_code(&self, keys: &[String], arguments: &[&[u8]]) -> Cmd {
        call("EVAL", self.code, keys, arguments)
    }
}

fn call(how: &str, script: &str, keys: &[String], arguments: &[&[u8]]) -> Cmd {
    let mut call = cmd(how);
    call.arg(script).arg(keys.len());
    for key in keys {
        call.arg(key);
    }
    for argument in arguments {
        call.arg(*argument);
    }
    call
}
