//! Making an installation: its folder, its encryption key, its first workspace and key.

use std::sync::Arc;

use anyhow::bail;
use rateguard_core::ids::{DisplayName, WorkspaceId};
use rateguard_core::money::Currency;
use rateguard_core::time::{Millis, Zone};
use rateguard_engine::audit::Deed;
use rateguard_engine::clock::{Clock, SystemClock};
use rateguard_engine::manage::{KEYS_PER_WORKSPACE_MAX, Recount, equip};
use rateguard_engine::people::{EmailAddress, FirstOwner, MEMBERS_PER_WORKSPACE_MAX, first_owner};
use rateguard_engine::ports::{ConfigStore, Joining, PeopleStore, Resource};
use rateguard_engine::resources::{Key, Scopes, Workspace};
use rateguard_engine::secrets::{Purpose, SecretText, random};
use rateguard_store_sql::Opening;

use crate::config::Config;
use crate::keyfile;
use crate::wiring::OpenStores;

/// What the audit trail calls the making of an installation.
const INSTALLING: &str = "Install";
/// What the first person is called.
const OWNER_NAME: &str = "Owner";

/// The first workspace, as its owner wants it.
#[derive(Clone, Debug)]
pub struct FirstWorkspace {
    /// Its name.
    pub name: DisplayName,
    /// Whose calendar its windows follow.
    pub zone: Zone,
    /// The currency of its money.
    pub currency: Currency,
    /// The address of the person who owns it.
    pub owner: EmailAddress,
}

/// A new installation.
#[derive(Debug)]
pub struct Installed {
    /// The first workspace.
    pub workspace: WorkspaceId,
    /// The first key, which may do everything.
    pub key: Key,
    /// Its secret: the only copy.
    pub secret: SecretText,
    /// The person who owns the workspace, with the only copy of their password.
    pub owner: FirstOwner,
}

/// Makes an installation in the configured data folder or database.
///
/// # Errors
/// When there is one already.
pub async fn install(config: &Config, first: FirstWorkspace) -> anyhow::Result<Installed> {
    install_for(config, first, Purpose::Own).await
}

/// The same, for a purpose.
///
/// # Errors
/// As [`install`].
pub async fn install_for(
    config: &Config,
    first: FirstWorkspace,
    purpose: Purpose,
) -> anyhow::Result<Installed> {
    let stores = OpenStores::open(config, Opening::ExistingOrNew, Recount::Exact).await?;
    let installed = install_in(&stores, config, first, purpose).await;
    stores.close().await;
    installed
}

async fn install_in(
    stores: &OpenStores,
    config: &Config,
    first: FirstWorkspace,
    purpose: Purpose,
) -> anyhow::Result<Installed> {
    let store = stores.config_store();
    if !store.snapshot().await?.workspaces.is_empty() {
        bail!("{} holds an installation already", config.stores_place());
    }
    let key_file = config.encryption_key_file();
    if !key_file.exists() {
        keyfile::create_encryption_key(&key_file)?;
    }
    stores.cipher_for(config, purpose).await?;
    first_workspace(&store, &stores.people_store(), first, SystemClock::default().now()).await
}

async fn first_workspace(
    store: &Arc<dyn ConfigStore>,
    people: &Arc<dyn PeopleStore>,
    first: FirstWorkspace,
    now: Millis,
) -> anyhow::Result<Installed> {
    let workspace = WorkspaceId::from_random(random()?);
    let FirstWorkspace { name, zone, currency, owner } = first;
    let owner = first_owner(owner, DisplayName::parse("owner", OWNER_NAME)?, now).await?;
    let own = Joining::Own(Workspace { id: workspace.clone(), name, zone, currency });
    let deed = Deed::of_server(INSTALLING, now);
    people.create_user(owner.user.clone(), own, MEMBERS_PER_WORKSPACE_MAX, &deed).await?;
    let (key, secret) = equip(first_key()?)?;
    store.insert(&workspace, Resource::Key(key.clone()), KEYS_PER_WORKSPACE_MAX, &deed).await?;
    Ok(Installed { workspace, key, secret, owner })
}

/// It makes the keys of apps, and a key hands out no scope that it lacks.
fn first_key() -> anyhow::Result<Key> {
    plain_key("first manage key", Scopes::ALL.into_iter().collect())
}

/// A key without restrictions, not yet equipped with a secret.
///
/// # Errors
/// When the name is out of bounds.
pub fn plain_key(name: &str, scopes: Scopes) -> anyhow::Result<Key> {
    Ok(Key::plain(DisplayName::parse("display_name", name)?, scopes))
}
