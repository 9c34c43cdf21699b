//! The stores that keep their data in SQL: configuration, events, usage and the counters'
//! checkpoints, each in a database of its own. No transaction spans two of them.
//!
//! The module `database` alone knows which database it is: how files are opened and locked, what
//! an error code means, and when a commit's outcome is unknown. The statements are written for the
//! common ground of SQLite and PostgreSQL: `$N` placeholders, `ON CONFLICT`, `RETURNING`, and
//! integers for booleans.

mod audit;
mod config;
mod counters;
mod database;
mod events;
mod installation;
mod people;
#[cfg(test)]
mod testing;
mod usage;
mod versions;

pub use audit::SqlAuditStore;
pub use config::{SqlConfigStore, SqlSealedReader};
pub use counters::SqlCheckpointStore;
pub use database::{DataFolder, Migrations, OpenError, PostgresDatabase};
pub use events::SqlEventLog;
pub use installation::{Opening, SqlStores};
pub use people::SqlPeopleStore;
pub use usage::SqlUsageStore;
pub use versions::{SchemaVersion, migrate, migrate_on_server, versions, versions_on_server};
