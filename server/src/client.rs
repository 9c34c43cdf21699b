//! The commands' own client: the generated one over a channel, with the key on every call.

use std::time::Duration;

use anyhow::{Context, bail};
use rateguard_proto::v1::configuration_service_client::ConfigurationServiceClient;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::usage_service_client::UsageServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for an answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

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
/// When the address is malformed or nobody answers there.
pub async fn connect(address: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(address.to_owned())
        .with_context(|| format!("{address:?} is no address such as http://127.0.0.1:8080"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .tcp_nodelay(true);
    endpoint.connect().await.with_context(|| format!("cannot reach a server at {address}"))
}

impl Client {
    /// Connects to a server and keeps the key for every call.
    ///
    /// # Errors
    /// As [`connect`], and for a key that cannot be sent.
    pub async fn connect(address: &str, key: &str) -> anyhow::Result<Self> {
        Ok(Self { channel: connect(address).await?, bearer: Bearer::new(key)? })
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
    anyhow::anyhow!("{}: {}", status.code().description(), status.message())
}
