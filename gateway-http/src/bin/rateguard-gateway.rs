//! `rateguard-gateway`: the proxy as a process of its own, in front of a remote RateGuard server.

use std::future::Future;
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use http::HeaderName;
use rateguard_gateway_http::{
    ClientAddress, Drained, Gateway, GatewayConfig, Secret, Transport, config, remote, router,
};
use rateguard_serving::private_file::read_private;
use rateguard_serving::tls::{Certificates, ClientCertificates, TlsFiles, read_pem, read_private_pem};
use rateguard_serving::{DRAIN_WAIT_MAX, Descriptors, listen, serve_with};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Most that a token's file holds: several times the longest token.
const TOKEN_FILE_BYTES_MAX: u64 = 16 * 1024;

/// Longest that a stop waits for reports, once the last call is answered or cut off.
const REPORTS_WAIT_MAX: Duration = Duration::from_secs(30);

/// Puts limits, budgets and metering in front of HTTP APIs, as a RateGuard server decides.
#[derive(Debug, Parser)]
#[command(name = "rateguard-gateway", version)]
struct Arguments {
    /// Address to listen on.
    #[arg(long, env = "RATEGUARD_GATEWAY_LISTEN", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,

    /// URL of the server's listener for gateways (its server.gateway_listen, not the public one), http://
    /// or https://.
    #[arg(long, env = "RATEGUARD_GATEWAY_SERVER")]
    server: String,

    /// File that holds the gateway's token, readable by its owner alone.
    #[arg(long, env = "RATEGUARD_GATEWAY_TOKEN_FILE")]
    token_file: PathBuf,

    /// File with the certificate authority (PEM) of an https server. Default: the roots of the web.
    #[arg(long, env = "RATEGUARD_GATEWAY_SERVER_CA_FILE")]
    server_ca_file: Option<PathBuf>,

    /// File with the certificate (PEM) to show to an https server. Read at start alone.
    #[arg(long, env = "RATEGUARD_GATEWAY_CLIENT_CERTIFICATE_FILE", requires = "client_key_file")]
    client_certificate_file: Option<PathBuf>,

    /// File with its key (PEM), readable by its owner alone.
    #[arg(long, env = "RATEGUARD_GATEWAY_CLIENT_KEY_FILE", requires = "client_certificate_file")]
    client_key_file: Option<PathBuf>,

    #[command(flatten)]
    listener: Listener,

    /// Header in which a trusted proxy in front puts the client's address. Default: the peer counts.
    #[arg(long, env = "RATEGUARD_GATEWAY_CLIENT_ADDRESS_HEADER")]
    client_address_header: Option<HeaderName>,

    /// Life of every reservation in milliseconds, 1,000 to 3,600,000. Default: as long as its call can
    /// last. A shorter one expires under calls that are still under way.
    #[arg(
        long,
        env = "RATEGUARD_GATEWAY_RESERVATION_TTL_MS",
        value_parser = clap::value_parser!(u64).range(1_000..=3_600_000)
    )]
    reservation_ttl_ms: Option<u64>,
}

/// How apps reach it.
#[derive(Debug, clap::Args)]
struct Listener {
    /// File with the gateway's own certificate (PEM), followed by those between it and its authority:
    /// apps are served https. It is read anew when it changes and at SIGHUP.
    #[arg(long, env = "RATEGUARD_GATEWAY_CERTIFICATE_FILE", requires = "key_file")]
    certificate_file: Option<PathBuf>,

    /// File with its key (PEM), readable by its owner alone.
    #[arg(long, env = "RATEGUARD_GATEWAY_KEY_FILE", requires = "certificate_file")]
    key_file: Option<PathBuf>,

    /// Listen on another address than loopback without a certificate: keys and prompts pass in clear.
    #[arg(long, env = "RATEGUARD_GATEWAY_ALLOW_CLEAR_TEXT")]
    allow_clear_text: bool,
}

impl Listener {
    /// What apps are served with at this address; `None` for in clear.
    fn certificates(&self, address: SocketAddr) -> anyhow::Result<Option<Arc<Certificates>>> {
        if let (Some(certificate), Some(key)) = (&self.certificate_file, &self.key_file) {
            let files =
                TlsFiles { certificate: certificate.clone(), key: key.clone(), client_authority: None };
            return Ok(Some(Certificates::load(files).context("--certificate-file, --key-file")?));
        }
        let is_loopback = address.ip().to_canonical().is_loopback();
        ensure!(
            is_loopback || self.allow_clear_text,
            "--listen {address} is no loopback address, and nothing is encrypted: give --certificate-file, or \
             --allow-clear-text where TLS ends in front of the gateway"
        );
        if !is_loopback {
            tracing::warn!(%address, "keys and prompts pass in clear: there is no --certificate-file");
        }
        Ok(None)
    }
}

impl Arguments {
    fn gateway_config(&self) -> anyhow::Result<GatewayConfig> {
        let mut config = GatewayConfig::new(token(&self.token_file)?);
        let descriptors = Descriptors::raise().context("the limit of open files cannot be raised")?;
        config.calls_max = descriptors.calls_out_of(config.calls_max);
        config.reservation_lifetime = self.reservation_ttl_ms.map(Duration::from_millis);
        if let Some(header) = &self.client_address_header {
            config.client_address = ClientAddress::Header(header.clone());
        }
        Ok(config)
    }

    fn transport(&self) -> anyhow::Result<Transport> {
        let authority = self.server_ca_file.as_deref().map(read_pem).transpose()?;
        let certificate = self.client_certificate_file.as_deref().map(read_pem).transpose()?;
        let key = self.client_key_file.as_deref().map(read_private_pem).transpose()?;
        let tls = remote::ServerTls {
            certificate_authority: authority.as_deref(),
            client: certificate.as_deref().zip(key.as_ref().map(|key| key.as_slice())),
        };
        let channel = remote::channel(&self.server, tls);
        Ok(Transport::new(channel.with_context(|| format!("--server {}", self.server))?))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        // Else a message that cannot be written panics in the call that it is about.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    let certificates = arguments.listener.certificates(arguments.listen)?;
    let gateway = Gateway::new(arguments.transport()?, arguments.gateway_config()?)?;
    let listener = listen(arguments.listen).with_context(|| format!("--listen {}", arguments.listen))?;
    let stop = stop_signal()?;
    let address = listener.local_addr()?;
    tracing::info!(%address, server = arguments.server, "gateway listens");
    let scheme = if certificates.is_some() { "https" } else { "http" };
    writeln!(std::io::stdout().lock(), "ready at {scheme}://{address}")?;
    let told = gateway.clone();
    let stop = async move {
        stop.await;
        told.begin_stop();
    };
    serve_apps(listener, certificates, gateway.clone(), stop).await?;
    let drained = gateway.drain(REPORTS_WAIT_MAX).await;
    ensure!(drained == Drained::Whole, "stopped with calls unreported: {drained:?}");
    tracing::info!("gateway stopped");
    Ok(())
}

/// Serves until the stop, and looks after the certificate meanwhile.
async fn serve_apps(
    listener: TcpListener,
    certificates: Option<Arc<Certificates>>,
    gateway: Gateway,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let Some(certificates) = certificates else {
        return Ok(serve_with(listener, None, router(gateway), stop, DRAIN_WAIT_MAX).await?);
    };
    let tls = certificates.tls(ClientCertificates::NotAsked)?;
    let hangup = signal(SignalKind::hangup())?;
    let served = CancellationToken::new();
    let serving = async {
        let outcome = serve_with(listener, Some(tls), router(gateway), stop, DRAIN_WAIT_MAX).await;
        served.cancel();
        outcome
    };
    tokio::try_join!(serving, certificates.keep_current(hangup, served.clone()))?;
    Ok(())
}

/// Completes at the first request to stop.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate): (Signal, Signal) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

fn token(path: &Path) -> anyhow::Result<Secret> {
    let bytes = read_private(path, TOKEN_FILE_BYTES_MAX).context("--token-file")?;
    let text =
        str::from_utf8(&bytes).with_context(|| format!("--token-file {} is no text", path.display()))?;
    let (token, path) = (text.trim(), path.display());
    ensure!(
        !token.is_empty(),
        "--token-file {path} holds no token: put into it what the server's server.gateway_token_file holds"
    );
    ensure!(token.len() <= config::TOKEN_BYTES_MAX, "--token-file {path} holds more than a token");
    Ok(Secret::new(token))
}
