//! `rateguard health`.

use anyhow::bail;
use clap::Args;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::client::{ServerTls, connect, describe};

#[derive(Debug, Args)]
pub(super) struct Health {
    /// The server's address
    #[arg(long, env = "RATEGUARD_ADDRESS", default_value = "http://127.0.0.1:8080")]
    address: String,
    #[command(flatten)]
    tls: ServerTls,
}

impl Health {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let mut client = HealthClient::new(connect(&self.address, &self.tls).await?);
        let request = HealthCheckRequest { service: String::new() };
        let answer = client.check(request).await.map_err(|status| describe(&status))?.into_inner();
        match answer.status() {
            ServingStatus::Serving => super::print("serving"),
            other => bail!("the server says {}", other.as_str_name()),
        }
    }
}
