//! `rateguard migrate`.

use anyhow::{Context, ensure};
use clap::Args;
use rateguard_store_sql::{self as stores, PostgresDatabase, SchemaVersion};

use super::ConfigArgs;
use crate::config::{Config, StoresKind};
use crate::wiring::database_server;

#[derive(Debug, Args)]
pub(super) struct Migrate {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only say how far they are; fails where they are not up to date
    #[arg(long)]
    check: bool,
}

/// Whose schemas they are.
enum Place {
    Folder(std::path::PathBuf),
    Server(PostgresDatabase),
}

impl Migrate {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let place = Place::of(&self.config.load()?)?;
        let before = place.versions().await?;
        if self.check {
            super::print(&lines(before.iter().map(standing)))?;
            ensure!(before.iter().all(is_current), "the stores are not those of this version");
            return Ok(());
        }
        place.migrate().await.context("the stores were not all brought up to date")?;
        let after = place.versions().await?;
        super::print(&lines(before.iter().zip(&after).map(way)))
    }
}

impl Place {
    fn of(config: &Config) -> anyhow::Result<Self> {
        Ok(match config.stores.kind {
            StoresKind::Sqlite => Self::Folder(config.data.folder.clone()),
            StoresKind::Postgres => Self::Server(database_server(config)?.applying_migrations()),
        })
    }

    async fn versions(&self) -> anyhow::Result<Vec<SchemaVersion>> {
        Ok(match self {
            Self::Folder(path) => stores::versions(path).await?,
            Self::Server(server) => stores::versions_on_server(server).await?,
        })
    }

    async fn migrate(&self) -> anyhow::Result<()> {
        match self {
            Self::Folder(path) => stores::migrate(path).await?,
            Self::Server(server) => stores::migrate_on_server(server).await?,
        }
        Ok(())
    }
}

fn is_current(version: &SchemaVersion) -> bool {
    version.applied == Some(version.known)
}

fn number(applied: Option<i64>) -> String {
    applied.map_or_else(|| "none".to_owned(), |version| version.to_string())
}

/// How far a store is.
fn standing(version: &SchemaVersion) -> String {
    let SchemaVersion { store, applied, known } = *version;
    match applied {
        Some(applied) if applied == known => format!("{store}: {applied}, up to date"),
        Some(applied) if applied > known => format!("{store}: {applied}, newer than this version's {known}"),
        _ => format!("{store}: {}, and {known} is this version's", number(applied)),
    }
}

/// From where to where a store was brought.
fn way((before, after): (&SchemaVersion, &SchemaVersion)) -> String {
    if before.applied == after.applied {
        return standing(after);
    }
    format!("{}: {} to {}", after.store, number(before.applied), number(after.applied))
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().join("\n")
}
