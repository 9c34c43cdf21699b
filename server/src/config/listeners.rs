//! The keys about listeners: TLS, and what may leave the machine without it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use rateguard_serving::client_address::TrustedProxies;
use rateguard_serving::tls::{ClientCertificates, TlsFiles};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{ConfigError, Gateway, Server, unless_empty};

/// How listeners encrypt.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    #[serde(deserialize_with = "unless_empty")]
    certificate_file: Option<PathBuf>,
    #[serde(deserialize_with = "unless_empty")]
    key_file: Option<PathBuf>,
    #[serde(deserialize_with = "unless_empty")]
    client_ca_file: Option<PathBuf>,
    client_certificates: ClientCertificatesKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ClientCertificatesKey {
    Required,
    Optional,
}

impl Tls {
    /// The files of the certificate; `None` where everything is served in clear.
    pub fn files(&self) -> Option<TlsFiles> {
        let (certificate, key) = (self.certificate_file.clone()?, self.key_file.clone()?);
        Some(TlsFiles { certificate, key, client_authority: self.client_ca_file.clone() })
    }

    /// Whether the public listener wants its clients' certificates.
    pub fn of_clients(&self) -> ClientCertificates {
        match (&self.client_ca_file, self.client_certificates) {
            (None, _) => ClientCertificates::NotAsked,
            (Some(_), ClientCertificatesKey::Optional) => ClientCertificates::Optional,
            (Some(_), ClientCertificatesKey::Required) => ClientCertificates::Required,
        }
    }

    /// Whether the listener for gateways does: it requires them as soon as there is an authority for
    /// them, since gateways can always be given one.
    pub fn of_gateways(&self) -> ClientCertificates {
        match self.client_ca_file {
            None => ClientCertificates::NotAsked,
            Some(_) => ClientCertificates::Required,
        }
    }

    /// Checks what must stand together.
    fn check(&self) -> Result<(), ConfigError> {
        match (&self.certificate_file, &self.key_file, &self.client_ca_file) {
            (Some(_), None, _) => refuse(
                "server.tls.key_file",
                "must name the file with the key, since server.tls.certificate_file is set",
            ),
            (None, Some(_), _) => refuse(
                "server.tls.certificate_file",
                "must name the file with the certificate, since server.tls.key_file is set",
            ),
            (None, None, Some(_)) => refuse(
                "server.tls.client_ca_file",
                "must be empty unless server.tls.certificate_file is set: certificates of clients need TLS",
            ),
            _ => Ok(()),
        }
    }
}

impl Server {
    /// Checks what must stand together.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.tls.check()?;
        self.check_clear_text()?;
        self.check_gateway_listen()?;
        self.check_gateway_token()
    }

    /// The proxies that say who calls; `None` where the peer counts.
    pub fn trusted_proxies(&self) -> Option<TrustedProxies> {
        let header = self.client_address_header.clone()?;
        Some(TrustedProxies { header, ranges: self.trusted_proxies.clone() })
    }

    /// A header that anybody could write would be no address at all.
    pub(super) fn check_client_address(&self, gateway: &Gateway) -> Result<(), ConfigError> {
        match (&self.client_address_header, self.trusted_proxies.is_empty()) {
            (Some(_), true) => refuse(
                "server.trusted_proxies",
                "must name the ranges from which proxies connect, since server.client_address_header is set: \
                 anybody else could write into it",
            ),
            (None, false) => refuse(
                "server.client_address_header",
                "must name the header in which server.trusted_proxies say who calls",
            ),
            (Some(_), false) if gateway.client_address_header.is_some() => refuse(
                "gateway.client_address_header",
                "must be empty where server.client_address_header is set: that one counts for /proxy too",
            ),
            _ => Ok(()),
        }
    }

    /// Whether what the public listener carries leaves this machine as it is.
    pub fn is_open_in_clear(&self) -> bool {
        self.tls.files().is_none() && !is_loopback(self.listen)
    }

    /// Keys, tokens of people and prompts are in it.
    fn check_clear_text(&self) -> Result<(), ConfigError> {
        if self.allow_clear_text || !self.is_open_in_clear() {
            return Ok(());
        }
        let description = format!(
            "must be a loopback address, not {}, as long as nothing is encrypted: set \
             server.tls.certificate_file, or server.allow_clear_text = true where TLS ends in front of \
             the server",
            self.listen
        );
        Err(ConfigError::OutOfBounds { key: "server.listen", description })
    }

    /// Credentials of upstreams are in it, and a token alone may be copied.
    fn check_gateway_listen(&self) -> Result<(), ConfigError> {
        let is_guarded = self.tls.files().is_some_and(|files| files.client_authority.is_some());
        match self.gateway_listen {
            Some(address) if !is_guarded && !is_loopback(address) => {
                let description = format!(
                    "must be a loopback address, not {address}: it carries upstream credentials, and leaves \
                     the machine only with server.tls.certificate_file and server.tls.client_ca_file set"
                );
                Err(ConfigError::OutOfBounds { key: "server.gateway_listen", description })
            }
            _ => Ok(()),
        }
    }

    /// Who listens for gateways has to know them by something.
    fn check_gateway_token(&self) -> Result<(), ConfigError> {
        if self.gateway_listen.is_none() || !self.gateway_token_file.as_os_str().is_empty() {
            return Ok(());
        }
        refuse(
            "server.gateway_token_file",
            "must name a file with the token that gateways present, since server.gateway_listen is set",
        )
    }
}

/// Ranges of addresses; a single address stands for itself.
pub(super) fn ranges<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let range = |text: &String| {
        let range = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        range.map_err(|_| D::Error::custom(format!("{text:?} is no range of addresses such as 10.0.0.0/8")))
    };
    Vec::<String>::deserialize(deserializer)?.iter().map(range).collect()
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn refuse(key: &'static str, description: &str) -> Result<(), ConfigError> {
    Err(ConfigError::OutOfBounds { key, description: description.to_owned() })
}
