//! `rateguard init`.

use anyhow::Context;
use clap::Args;
use rateguard_core::ids::DisplayName;
use rateguard_core::money::Currency;
use rateguard_core::time::Zone;
use rateguard_engine::people::EmailAddress;

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
    /// The e-mail address by which the workspace's owner logs in
    #[arg(long, default_value = "owner@example.com")]
    owner: String,
}

impl Init {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        let first = FirstWorkspace {
            name: DisplayName::parse("--workspace", &self.workspace)?,
            zone: Zone::parse("--zone", &self.zone)?,
            currency: Currency::parse("--currency", &self.currency)?,
            owner: EmailAddress::parse("--owner", &self.owner)?,
        };
        let installed = install(&config, first).await.context("nothing was made")?;
        let folder = config.data.folder.display();
        // The secrets are shown here and nowhere else: only their hashes are kept.
        super::print(&format!(
            "Made workspace {} in {}.\nIts first key may do everything. It is shown only now:\n\n    {}\n\n\
             Its owner logs in with this password, which is shown only now too:\n\n    {}   {}\n\n\
             Start the server with: rateguard serve --data-dir {folder}",
            installed.workspace,
            config.stores_place(),
            installed.secret.expose(),
            installed.owner.user.email,
            installed.owner.password.expose(),
        ))
    }
}
