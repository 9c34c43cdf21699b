//! `rateguard init`.

use anyhow::Context;
use clap::Args;
use rateguard_core::ids::DisplayName;
use rateguard_core::money::Currency;
use rateguard_core::time::Zone;

use super::ConfigArgs;
use crate::setup::{FirstWorkspace, install};

#[derive(Debug, Args)]
pub(super) struct Init {
    #[command(flatten)]
    config: ConfigArgs,
    /// The first workspace's name
    #[arg(long, default_value = "default")]
    workspace: String,
    /// The time zone whose calendar its windows follow, by its IANA name
    #[arg(long, default_value = "UTC")]
    zone: String,
    /// The currency of its money, by its ISO 4217 code
    #[arg(long, default_value = "USD")]
    currency: String,
}

impl Init {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        let first = FirstWorkspace {
            name: DisplayName::parse("--workspace", &self.workspace)?,
            zone: Zone::parse("--zone", &self.zone)?,
            currency: Currency::parse("--currency", &self.currency)?,
        };
        let installed = install(&config, first).await.context("nothing was made")?;
        let folder = config.data.folder.display();
        // The secret is shown here and nowhere else: only its hash is kept.
        super::print(&format!(
            "Made workspace {} in {folder}.\nIts first key may manage and read. It is shown only now:\n\n    {}\n\n\
             Start the server with: rateguard serve --data-dir {folder}",
            installed.workspace,
            installed.secret.expose(),
        ))
    }
}
