//! The commands' own client: the generated one over a channel, with the key on every call.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use rateguard_proto::v1::configuration_service_client::ConfigurationServiceClient;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::usage_service_client::UsageServiceClient;
use rateguard_serving::tls::{read_pem, read_private_pem};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for an answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a server refuses that does not know whether it has done what it was asked.
const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";

/// Largest answer that is taken: a whole workspace.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Puts the key on every call.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    /// Takes the key.
    ///
    /// # Errors
    /// For a key with characters that cannot be sent.
    pub fn new(key: &str) -> anyhow::Result<Self> {
        let Ok(mut value) = format!("Bearer {}", key.trim()).parse::<MetadataValue<Ascii>>() else {
            bail!("the key has characters that cannot be sent");
        };
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// How a server is known that speaks https, and how this client is known to it.
#[derive(Clone, Debug, Default, Args)]
pub struct ServerTls {
    /// The certificates (PEM) of the authority that an https server's one is under. Default: the roots
    /// of the web
    #[arg(long, env = "RATEGUARD_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// The certificate (PEM) to show to an https server
    #[arg(long, env = "RATEGUARD_CLIENT_CERTIFICATE_FILE", requires = "client_key_file")]
    pub client_certificate_file: Option<PathBuf>,
    /// Its key (PEM), readable by its owner alone
    #[arg(long, env = "RATEGUARD_CLIENT_KEY_FILE", requires = "client_certificate_file")]
    pub client_key_file: Option<PathBuf>,
    /// The name that an https server's certificate has to have. Default: the one in the address
    #[arg(long, env = "RATEGUARD_SERVER_NAME")]
    pub server_name: Option<String>,
}

/// A server with a key.
pub struct Client {
    channel: Channel,
    bearer: Bearer,
}

/// The transport of the generated clients.
pub type Transport = InterceptedService<Channel, Bearer>;

/// Connects to a server.
///
/// # Errors
/// When the address is malformed, a file of TLS cannot be used, or nobody answers there whom these files
/// let trust.
pub async fn connect(address: &str, tls: &ServerTls) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(address.to_owned())
        .with_context(|| format!("{address:?} is no address such as http://127.0.0.1:8080"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .tcp_nodelay(true);
    let endpoint = if endpoint.uri().scheme_str() == Some("https") {
        endpoint.tls_config(tls.config()?)?
    } else {
        ensure!(
            tls.is_empty(),
            "{address:?} is not https: files of TLS and a server's name mean nothing there"
        );
        endpoint
    };
    endpoint.connect().await.with_context(|| format!("cannot reach a server at {address}"))
}

impl ServerTls {
    fn is_empty(&self) -> bool {
        let Self { ca_file, client_certificate_file, client_key_file, server_name } = self;
        let files = [ca_file, client_certificate_file, client_key_file];
        files.into_iter().all(Option::is_none) && server_name.is_none()
    }

    fn config(&self) -> anyhow::Result<ClientTlsConfig> {
        let mut config = ClientTlsConfig::new().timeout(CONNECT_TIMEOUT);
        config = match &self.ca_file {
            Some(path) => config.ca_certificate(Certificate::from_pem(read_pem(path)?)),
            None => config.with_enabled_roots(),
        };
        if let (Some(certificate), Some(key)) = (&self.client_certificate_file, &self.client_key_file) {
            config = config.identity(Identity::from_pem(read_pem(certificate)?, read_private_pem(key)?));
        }
        Ok(match &self.server_name {
            Some(name) => config.domain_name(name),
            None => config,
        })
    }
}

impl Client {
    /// Connects to a server and keeps the key for every call.
    ///
    /// # Errors
    /// As [`connect`], and for a key that cannot be sent.
    pub async fn connect(address: &str, tls: &ServerTls, key: &str) -> anyhow::Result<Self> {
        Ok(Self { channel: connect(address, tls).await?, bearer: Bearer::new(key)? })
    }

    /// Checks.
    pub fn quota(&self) -> QuotaServiceClient<Transport> {
        QuotaServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// Workspaces as a whole.
    pub fn configurations(&self) -> ConfigurationServiceClient<Transport> {
        ConfigurationServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
            .max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Reports and events.
    pub fn usage(&self) -> UsageServiceClient<Transport> {
        UsageServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }
}

/// A status as people read it.
pub fn describe(status: &Status) -> anyhow::Error {
    if is_said_by_server(status) {
        return anyhow::anyhow!("{}", status.message());
    }
    match first_cause(status) {
        Some(cause) => anyhow::anyhow!("the call was cut off: {cause}"),
        None => anyhow::anyhow!("the call was not answered: {}", status.message()),
    }
}

/// What has caused what has caused an error, to the end.
fn first_cause(status: &Status) -> Option<&(dyn Error + 'static)> {
    let mut cause = status.source()?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause)
}

/// Whether nobody can say from a refused change if it was made: the answer was lost or cannot be read, or
/// the server does not know itself.
pub fn is_outcome_unknown(status: &Status) -> bool {
    let is_reason_unknown = || {
        let details = status.get_error_details();
        details.error_info().is_some_and(|info| info.reason == OUTCOME_UNKNOWN)
    };
    !is_said_by_server(status) || status.code() == Code::DeadlineExceeded || is_reason_unknown()
}

/// Every refusal of a server of ours has details; those that the library makes here have none.
fn is_said_by_server(status: &Status) -> bool {
    !status.details().is_empty()
}

#[cfg(test)]
mod tests;
