//! The scripts, each put together from its parts. Their names are hashes of what they say, so that a
//! version of this program never runs the script of another.

use std::sync::LazyLock;

use redis::{Cmd, Script, cmd};

/// A script with its name.
pub(crate) struct NamedScript {
    code: &'static str,
    hash: String,
}

/// Decides a check.
pub(crate) static CHECK: LazyLock<NamedScript> = LazyLock::new(|| {
    NamedScript::new(concat!(
        include_str!("scripts/numbers.lua"),
        include_str!("scripts/counters.lua"),
        include_str!("scripts/books.lua"),
        include_str!("scripts/workspace.lua"),
        include_str!("scripts/reservations.lua"),
        include_str!("scripts/check.lua"),
    ))
});

/// Ends and takes leases.
pub(crate) static LEASE: LazyLock<NamedScript> = LazyLock::new(|| {
    NamedScript::new(concat!(
        include_str!("scripts/numbers.lua"),
        include_str!("scripts/counters.lua"),
        include_str!("scripts/books.lua"),
        include_str!("scripts/workspace.lua"),
        include_str!("scripts/reservations.lua"),
        include_str!("scripts/lease.lua"),
    ))
});

/// Settles records.
pub(crate) static SETTLE: LazyLock<NamedScript> = LazyLock::new(|| {
    NamedScript::new(concat!(
        include_str!("scripts/numbers.lua"),
        include_str!("scripts/counters.lua"),
        include_str!("scripts/books.lua"),
        include_str!("scripts/workspace.lua"),
        include_str!("scripts/reservations.lua"),
        include_str!("scripts/settle.lua"),
    ))
});

/// Does everything else.
pub(crate) static TEND: LazyLock<NamedScript> = LazyLock::new(|| {
    NamedScript::new(concat!(
        include_str!("scripts/numbers.lua"),
        include_str!("scripts/counters.lua"),
        include_str!("scripts/books.lua"),
        include_str!("scripts/workspace.lua"),
        include_str!("scripts/reservations.lua"),
        include_str!("scripts/tend.lua"),
    ))
});

impl NamedScript {
    fn new(code: &'static str) -> Self {
        Self { code, hash: Script::new(code).get_hash().to_owned() }
    }

    /// The call of a script that the server knows.
    pub(crate) fn by_name(&self, keys: &[String], command: &[u8]) -> Cmd {
        call("EVALSHA", &self.hash, keys, command)
    }

    /// The call that also teaches the server the script.
    pub(crate) fn by_code(&self, keys: &[String], command: &[u8]) -> Cmd {
        call("EVAL", self.code, keys, command)
    }
}

fn call(how: &str, script: &str, keys: &[String], command: &[u8]) -> Cmd {
    let mut call = cmd(how);
    call.arg(script).arg(keys.len());
    for key in keys {
        call.arg(key);
    }
    call.arg(command);
    call
}
