//! The scripts, as one library of functions that Redis keeps. It is named by a hash of what it says, so that
//! a version of this program never runs the functions of another.
//!
//! Functions are made once, when the library is loaded. A script that is sent by `EVALSHA` makes all of its
//! own with each call, which took Redis longer than most decisions take it.

use std::sync::LazyLock;

use redis::{Cmd, Script, cmd};

/// What the functions share comes first, since Lua knows a name from where it is declared.
const PARTS: &str = concat!(
    include_str!("scripts/numbers.lua"),
    include_str!("scripts/counters.lua"),
    include_str!("scripts/books.lua"),
    include_str!("scripts/workspace.lua"),
    include_str!("scripts/reservations.lua"),
    include_str!("scripts/ids.lua"),
    include_str!("scripts/check.lua"),
    include_str!("scripts/lease.lua"),
    include_str!("scripts/cancel.lua"),
    include_str!("scripts/settle.lua"),
    include_str!("scripts/tend.lua"),
    include_str!("scripts/slots.lua"),
);

static LIBRARY: LazyLock<Library> = LazyLock::new(Library::new);

struct Library {
    version: String,
    code: String,
}

impl Library {
    fn new() -> Self {
        let version = Script::new(PARTS).get_hash().to_owned();
        let code = format!("#!lua name=rateguard_{version}\nlocal VERSION = '{version}'\n{PARTS}");
        Self { version, code }
    }
}

/// One of the library's functions.
pub(crate) struct Function {
    name: LazyLock<String>,
}

macro_rules! functions {
    ($($(#[$about:meta])* $function:ident = $name:literal;)+) => {
        $($(#[$about])* pub(crate) static $function: Function = Function {
            name: LazyLock::new(|| format!(concat!($name, "_{}"), LIBRARY.version)),
        };)+
    };
}

functions! {
    /// Decides a check.
    CHECK = "check";
    /// Ends and takes leases.
    LEASE = "lease";
    /// Undoes an attempt at a check.
    CANCEL = "cancel";
    /// Settles records.
    SETTLE = "settle";
    /// Does everything else with a workspace.
    TEND = "tend";
    /// Claims the slot of a replica.
    CLAIM_SLOT = "claim";
    /// Gives one back.
    FREE_SLOT = "free";
}

impl Function {
    /// Its call.
    pub(crate) fn call(&self, keys: &[String], command: &[u8]) -> Cmd {
        let mut call = cmd("FCALL");
        call.arg(self.name.as_str()).arg(keys.len());
        for key in keys {
            call.arg(key);
        }
        call.arg(command);
        call
    }
}

/// Teaches a server all of them. A server that has them already refuses it.
pub(crate) fn load() -> Cmd {
    let mut load = cmd("FUNCTION");
    load.arg("LOAD").arg(LIBRARY.code.as_str());
    load
}
