//! `rateguard rotate-encryption-key`.

use clap::Args;

use super::ConfigArgs;
use crate::logging;
use crate::rotation::{Asked, KeyFileReaders, Patience, Until, rotate};

#[derive(Debug, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    config: ConfigArgs,
    /// How far to go; run again, it goes on. To the end where it is not given, unless replicas may have key
    /// files of their own
    #[arg(long, value_enum)]
    until: Option<Until>,
    /// On PostgreSQL: every replica reads this key file, so that nobody has to bring it to them
    #[arg(long)]
    shared_key_file: bool,
}

impl Rotate {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        logging::start(&config.log)?;
        let readers = if self.shared_key_file { KeyFileReaders::All } else { KeyFileReaders::Some };
        let asked = Asked { until: self.until, readers };
        rotate(&config, asked, Patience::default(), |step| super::print(&step)).await
    }
}
