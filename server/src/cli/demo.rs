//! `rateguard demo`.

use std::path::PathBuf;

use clap::Args;

use super::serve::{Signals, until_told_or_failed};
use crate::config::Config;
use crate::demo::{self, DemoKeys};
use crate::logging;

/// Where `serve` is told the same.
const LISTEN_VARIABLE: &str = "RATEGUARD_SERVER__LISTEN";

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// The demo's own data folder
    #[arg(long, default_value = "data/demo")]
    data_dir: PathBuf,
    /// The address to listen on
    #[arg(long, env = LISTEN_VARIABLE, default_value = "127.0.0.1:8080")]
    listen: String,
    /// Say that it is ready in one line of JSON
    #[arg(long)]
    print_json: bool,
}

impl Demo {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let environment = super::environment();
        let flags =
            [("data.folder", self.data_dir.display().to_string()), ("server.listen", self.listen.clone())];
        let config = Config::load(None, &environment, &flags)?;
        logging::start(&config.log)?;
        let mut signals = Signals::listen()?;
        let starting = demo::Demo::start(&config);
        let Some(mut demo) = signals.unless_told(starting).await.transpose()? else { return Ok(()) };
        super::print(&self.welcome(&demo, &demo.keys))?;
        let ran = until_told_or_failed(&mut signals, demo.failed()).await;
        let stopped = signals.unless_told_again(demo.stop()).await;
        ran.and(stopped)
    }

    fn welcome(&self, demo: &demo::Demo, keys: &DemoKeys) -> String {
        let url = demo.running.url();
        if self.print_json {
            return demo::as_json(&url, keys);
        }
        demo::as_text(&url, &self.data_dir, keys)
    }
}
