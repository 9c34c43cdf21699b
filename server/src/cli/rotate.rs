//! `rateguard rotate-encryption-key`.

use clap::Args;

use super::ConfigArgs;
use crate::logging;
use crate::rotation::{Patience, Until, rotate};

#[derive(Debug, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    config: ConfigArgs,
    /// How far to go; run again, it goes on
    #[arg(long, value_enum, default_value_t = Until::Finished)]
    until: Until,
}

impl Rotate {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        logging::start(&config.log)?;
        rotate(&config, self.until, Patience::default(), |step| super::print(&step)).await
    }
}
