//! The keys about logging in through a provider.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use rateguard_engine::people::ExternalLogin;
use rateguard_engine::secrets::SecretText;
use rateguard_oidc::{OidcConfig, OidcProvider};
use serde::Deserialize;

use crate::config::{ConfigError, unless_empty};
use crate::keyfile;

/// Scopes, and domains, that may be named.
const NAMES_MAX: usize = 100;

/// Logging in through an OpenID Connect provider.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    issuer: String,
    client_id: String,
    client_secret: ClientSecret,
    client_secret_file: PathBuf,
    redirect_url: String,
    display_name: String,
    scopes: Vec<String>,
    allowed_email_domains: Vec<String>,
    create_accounts: bool,
    #[serde(deserialize_with = "unless_empty")]
    ca_file: Option<PathBuf>,
}

/// The client's secret. It prints as `[redacted]`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
struct ClientSecret(String);

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Oidc {
    /// Checks what must stand together.
    pub(in crate::config) fn check(&self) -> Result<(), ConfigError> {
        if self.issuer.is_empty() {
            return Ok(());
        }
        let must = |holds: bool, key, description: &str| {
            if holds {
                Ok(())
            } else {
                Err(ConfigError::OutOfBounds { key, description: description.to_owned() })
            }
        };
        must(
            !self.client_id.is_empty(),
            "people.oidc.client_id",
            "must be set, since people.oidc.issuer is",
        )?;
        must(
            !self.redirect_url.is_empty(),
            "people.oidc.redirect_url",
            "must be set, since people.oidc.issuer is",
        )?;
        must(
            self.client_secret.0.is_empty() || self.client_secret_file.as_os_str().is_empty(),
            "people.oidc.client_secret_file",
            "must be empty where people.oidc.client_secret is set",
        )?;
        let scopes_fit = self.scopes.iter().all(|scope| is_scope(scope)) && self.scopes.len() <= NAMES_MAX;
        must(scopes_fit, "people.oidc.scopes", "must be at most 100 names without spaces")?;
        let domains = &self.allowed_email_domains;
        let domains_fit = domains.iter().all(|domain| is_domain(domain)) && domains.len() <= NAMES_MAX;
        must(
            domains_fit,
            "people.oidc.allowed_email_domains",
            "must be at most 100 domains such as \"example.com\"",
        )
    }

    /// How people come in through the provider; `None` where there is none.
    ///
    /// # Errors
    /// When a URL, the secret's file or that of the authorities cannot be used.
    pub fn external_login(&self) -> anyhow::Result<Option<ExternalLogin>> {
        if self.issuer.is_empty() {
            return Ok(None);
        }
        let provider = OidcProvider::new(OidcConfig {
            issuer: self.issuer.clone(),
            client_id: self.client_id.clone(),
            client_secret: self.client_secret()?,
            redirect_url: self.redirect_url.clone(),
            scopes: self.scopes.clone(),
            ca_file: self.ca_file.clone(),
        });
        let domains = self.allowed_email_domains.iter();
        Ok(Some(ExternalLogin {
            provider: Arc::new(provider.context("people.oidc")?),
            display_name: self.display_name.clone(),
            allowed_email_domains: domains.map(|domain| domain.to_ascii_lowercase()).collect(),
            create_accounts: self.create_accounts,
        }))
    }

    fn client_secret(&self) -> anyhow::Result<Option<SecretText>> {
        let file = &self.client_secret_file;
        if file.as_os_str().is_empty() {
            let ClientSecret(secret) = &self.client_secret;
            return Ok((!secret.is_empty()).then(|| SecretText::new(secret.clone())));
        }
        let named = || format!("people.oidc.client_secret_file {}", file.display());
        let secret = keyfile::read_secret(file).with_context(named)?;
        // Only whether it is there.
        ensure!(!secret.expose().is_empty(), "{} is empty", named());
        Ok(Some(secret))
    }
}

fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_domain(text: &str) -> bool {
    text.contains('.') && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigError};

    fn load(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let variables =
            pairs.iter().map(|(key, value)| (format!("RATEGUARD_PEOPLE__OIDC__{key}"), (*value).to_owned()));
        Config::load(None, &variables.collect::<Vec<_>>(), &[])
    }

    const WHOLE: [(&str, &str); 4] = [
        ("ISSUER", "https://id.example.com"),
        ("CLIENT_ID", "rateguard"),
        ("CLIENT_SECRET", "a secret of the client"),
        ("REDIRECT_URL", "https://dashboard.example.com/callback"),
    ];

    fn key(pairs: &[(&str, &str)]) -> String {
        load(pairs).unwrap_err().to_string().split(' ').next().unwrap().to_owned()
    }

    #[test]
    fn a_provider_is_off_unless_it_is_named() {
        assert!(load(&[]).unwrap().people.oidc.external_login().unwrap().is_none());
        let login = load(&WHOLE).unwrap().people.oidc.external_login().unwrap().unwrap();
        assert_eq!((login.display_name.as_str(), login.create_accounts), ("Single sign-on", false));
    }

    #[test]
    fn what_a_provider_needs_is_asked_for() {
        assert_eq!(key(&WHOLE[..1]), "people.oidc.client_id");
        assert_eq!(key(&WHOLE[..3]), "people.oidc.redirect_url");
        let with = |pair| [&WHOLE[..], &[pair]].concat();
        assert_eq!(key(&with(("CLIENT_SECRET_FILE", "/x"))), "people.oidc.client_secret_file");
        assert_eq!(key(&with(("SCOPES", "[\"a b\"]"))), "people.oidc.scopes");
        assert_eq!(key(&with(("ALLOWED_EMAIL_DOMAINS", "[\"@x\"]"))), "people.oidc.allowed_email_domains");
    }

    #[test]
    fn a_url_in_clear_on_another_machine_and_an_issuer_with_a_query_are_refused() {
        let login_with = |pair: (&'static str, &'static str)| {
            let others = WHOLE.iter().copied().filter(|(key, _)| *key != pair.0);
            load(&others.chain([pair]).collect::<Vec<_>>()).unwrap().people.oidc.external_login()
        };
        for pair in [
            ("ISSUER", "http://id.example.com"),
            ("ISSUER", "https://id.example.com?realm=staff"),
            ("REDIRECT_URL", "http://dashboard.example.com/callback"),
        ] {
            assert!(login_with(pair).is_err(), "{pair:?}");
        }
        login_with(("REDIRECT_URL", "https://dashboard.example.com/?page=callback")).unwrap();
    }

    #[test]
    fn the_secret_is_not_printed() {
        let printed = format!("{:?}", load(&WHOLE).unwrap());
        assert!(printed.contains("id.example.com") && !printed.contains("a secret of the client"));
    }
}
