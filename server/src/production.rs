//! What an installation may not be in production. What the configuration may not say there is refused
//! when it is read.

use std::sync::Arc;

use anyhow::{anyhow, bail, ensure};
use rateguard_engine::ports::SealedValues;
use rateguard_engine::resources::SealedCredential;
use rateguard_engine::secrets::{CredentialCipher, EncryptionKey, Purpose, SealedPlace};
use rateguard_store_redis::Topology;
use rateguard_store_sql::PostgresDatabase;

use crate::config::{Config, Mode};
use crate::demo::UPSTREAM_CREDENTIAL;
use crate::wiring::OpenStores;

/// APIs looked at at once.
const APIS_PER_READ: usize = 200;

/// Refuses to make or run a demo in production.
///
/// # Errors
/// In production.
pub fn refuse_demo(config: &Config) -> anyhow::Result<()> {
    ensure!(
        config.server.mode == Mode::Development,
        "the demo prints its keys and its owner's password: it is not for production; make an installation with \
         `rateguard init`, or leave server.mode at development"
    );
    Ok(())
}

/// Refuses a database that is reached over a network without its certificate checked.
///
/// # Errors
/// In production.
pub fn check_database(config: &Config, server: &PostgresDatabase) -> anyhow::Result<()> {
    ensure!(
        config.server.mode == Mode::Development || server.is_private(),
        "{} is on another machine, and somebody on the way could read what passes or answer in its place: end \
         stores.postgres.url with ?sslmode=verify-full&sslrootcert=FILE (server.mode is production)",
        server.name()
    );
    Ok(())
}

/// Refuses counters that are reached over a network without TLS and its certificate checked.
///
/// # Errors
/// In production, and when a URL is malformed.
pub fn check_counters(config: &Config, servers: &Topology) -> anyhow::Result<()> {
    if config.server.mode == Mode::Development {
        return Ok(());
    }
    // What the parser says of a URL may hold its password.
    let exposed = servers.exposed_server().map_err(|_| anyhow!("stores.redis holds a malformed URL"))?;
    match exposed {
        None => Ok(()),
        Some(server) => bail!(
            "the Redis at {server} is on another machine, and somebody on the way could read what passes or \
             answer in its place: let its URL begin with rediss:// and not end with #insecure; behind Sentinels \
             that of stores.redis.sentinel_node_url too (server.mode is production)"
        ),
    }
}

/// Refuses an installation that is not fit for production.
///
/// # Errors
/// In production: a demo's data, and a key that was not drawn at random.
pub async fn check(config: &Config, stores: &OpenStores) -> anyhow::Result<()> {
    if config.server.mode == Mode::Development {
        return Ok(());
    }
    let cipher = stores.cipher(config).await?;
    if let Some(key) = cipher.ring().keys().find(|key| key.is_guessable()) {
        refuse_guessable(config, key)?;
    }
    let is_marked = stores.purpose(config).await? == Some(Purpose::Demo);
    if is_marked || has_demo_credential(&stores.sealed_store(), &cipher).await? {
        bail!(
            "{} holds the demo, whose keys and passwords were printed, and whose upstream's credential is known \
             to everybody: make an installation in another folder with `rateguard init`, or leave server.mode at \
             development",
            config.data.folder.display()
        );
    }
    Ok(())
}

fn refuse_guessable(config: &Config, key: &EncryptionKey) -> anyhow::Result<()> {
    bail!(
        "{} holds a key ({}) that was not drawn at random: draw one with `rateguard rotate-encryption-key`",
        config.encryption_key_file().display(),
        key.id()
    )
}

/// A demo that was made by a version without marks is known by its upstream's credential.
async fn has_demo_credential(
    store: &Arc<impl SealedValues + ?Sized>,
    cipher: &CredentialCipher,
) -> anyhow::Result<bool> {
    let mut after = None;
    loop {
        let page = store.credentials_after(after.as_ref(), APIS_PER_READ).await?;
        for value in page.values {
            let SealedPlace::Credential(workspace, api) = &value.place else { continue };
            let opened = cipher.open(workspace, api, &SealedCredential(value.sealed));
            // It is only compared.
            if opened.is_ok_and(|secret| secret.expose() == UPSTREAM_CREDENTIAL) {
                return Ok(true);
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests;
