//! Migrations are compiled in: a new file must build the crate again.

use std::io::{self, Write};

fn main() -> io::Result<()> {
    writeln!(io::stdout(), "cargo:rerun-if-changed=../../../migrations")
}
