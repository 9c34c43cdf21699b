//! A rotation that is cut off after each of its steps goes on and ends right, and a server starts from
//! wherever it stopped.

use std::cell::Cell;
use std::path::Path;

use rateguard_core::ids::{ApiId, DisplayName};
use rateguard_core::money::Currency;
use rateguard_core::time::Zone;
use rateguard_engine::caller::Identity;
use rateguard_engine::engine::Engine;
use rateguard_engine::listing::PageQuery;
use rateguard_engine::manage::{ApiDraft, CredentialChange, ResourceFilter};
use rateguard_engine::people::EmailAddress;
use rateguard_engine::ports::{Resource, ResourceKind, SealedStore};
use rateguard_engine::resources::Api;
use rateguard_engine::secrets::{SecretText, random};
use tempfile::TempDir;
use tokio::task::yield_now;

use super::*;
use crate::running::Running;
use crate::setup::{FirstWorkspace, install};
use crate::testing::plain_api;

/// Credentials of a world.
const APIS: usize = 3;
/// Most that are made beside a rotation, which waits for servers in between.
const APIS_MAX: usize = 40;
/// For servers that know the file within two looks.
const QUICK: Patience = Patience {
    known_within: Duration::from_millis(2_500),
    stored_within: Duration::ZERO,
    stalled_max: Duration::from_secs(30),
};

/// An installation with something sealed in it.
struct World {
    _folder: TempDir,
    config: Config,
    secret: String,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let flags = [
            ("data.folder", folder.path().display().to_string()),
            ("server.listen", "127.0.0.1:0".to_owned()),
        ];
        let config = Config::load(None, &[], &flags).unwrap();
        let name = DisplayName::parse("workspace", "tests").unwrap();
        let owner = EmailAddress::parse("owner", "owner@example.com").unwrap();
        let first = FirstWorkspace { name, zone: Zone::UTC, currency: Currency::USD, owner };
        let secret = install(&config, first).await.unwrap().secret.expose().to_owned();
        let world = Self { _folder: folder, config, secret };
        let running = world.serve().await;
        for number in 0..APIS {
            world.make_api(&running.engine, number).await;
        }
        running.stop().await.unwrap();
        world
    }

    async fn serve(&self) -> Running {
        Running::start(&self.config).await.unwrap()
    }

    fn who(&self, engine: &Engine) -> Identity {
        engine.authenticator().by_key(&self.secret, engine.now()).unwrap().into()
    }

    async fn make_api(&self, engine: &Engine, number: usize) {
        let who = self.who(engine);
        let credential = CredentialChange::Set(SecretText::new(format!("upstream secret {number}")));
        let api = engine.seal(who.workspace().unwrap(), ApiDraft { api: api(number), credential }).unwrap();
        engine.create(&who, Resource::Api(api)).await.unwrap();
    }

    /// Every credential, as the gateway would get it.
    async fn opened(&self, engine: &Engine) -> Vec<String> {
        let who = self.who(engine);
        let page = engine
            .list(&who, ResourceKind::Api, &ResourceFilter::default(), &PageQuery::first(100))
            .await
            .unwrap();
        let mut opened = Vec::new();
        for stored in page.items {
            let Resource::Api(api) = stored.value else { panic!("no API") };
            let secret = engine.open_credential(&stored.workspace, &api).unwrap().unwrap();
            opened.push(secret.expose().to_owned());
        }
        opened.sort();
        opened
    }

    /// Starts a server, sees that everything opens, and stops it.
    async fn serves(&self) {
        let running = self.serve().await;
        assert_eq!(self.opened(&running.engine).await, expected(APIS));
        running.stop().await.unwrap();
    }

    async fn rotate(&self, until: Until) -> anyhow::Result<()> {
        let asked = Asked { until: Some(until), ..Asked::WHOLE };
        rotate(&self.config, asked, QUICK, |_| Ok(())).await
    }

    fn file(&self) -> PathBuf {
        self.config.encryption_key_file()
    }

    fn keys(&self) -> KeyFile {
        KeyFile::read(&self.file()).unwrap()
    }

    async fn sealed_otherwise(&self, keys: &KeyFile) -> usize {
        let reader = sealed_values(&self.config).await.unwrap();
        sealed_otherwise(reader.as_ref(), keys.sealing.id()).await.unwrap()
    }

    /// The rotation has ended: one new key, which has sealed everything.
    async fn is_rotated_from(&self, before: &KeyFile) {
        let after = self.keys();
        assert!(after.is_settled() && after.sealing != before.sealing);
        assert_eq!(self.sealed_otherwise(&after).await, 0);
        self.serves().await;
    }

    async fn alone(&self) -> OpenStores {
        OpenStores::open_unless_in_use(&self.config).await.unwrap().unwrap()
    }
}

fn expected(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("upstream secret {number}")).collect()
}

fn api(number: usize) -> Api {
    plain_api(ApiId::from_random(random().unwrap()), &format!("api-{number}"))
}

fn left_behind(path: &Path) {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    std::fs::write(PathBuf::from(name), "half a file").unwrap();
}

/// Seals one value again, as a rotation that is killed in the middle leaves it.
async fn seal_one(store: &dyn SealedStore, keys: &KeyFile) {
    let cipher = CredentialCipher::with_ring(keys.ring());
    let page = store.credentials_after(None, 1).await.unwrap();
    let value = &page.values[0];
    let sealed = cipher.reseal(&value.place, &value.sealed).unwrap().unwrap();
    assert!(store.replace_sealed(value, sealed, SystemClock::default().now()).await.unwrap());
}

#[tokio::test]
async fn while_no_server_runs_the_command_does_it_all() {
    let world = World::new().await;
    let before = world.keys();
    assert!(world.sealed_otherwise(&before).await == 0);
    let mut told = Vec::new();
    let tell = |step: String| -> anyhow::Result<()> {
        told.push(step);
        Ok(())
    };
    rotate(&world.config, Asked::WHOLE, QUICK, tell).await.unwrap();
    world.is_rotated_from(&before).await;
    let told = told.join("\n");
    assert!(told.contains(&format!("Done: {} no longer stands in", before.sealing.id())), "{told}");
    assert!(!told.contains(world.keys().sealing.to_hex().expose()), "{told}");
}

#[tokio::test]
async fn while_a_server_runs_it_does_the_sealing_and_never_misses_a_credential() {
    let world = World::new().await;
    let before = world.keys();
    let running = world.serve().await;
    let is_done = Cell::new(false);
    let rotating = async {
        world.rotate(Until::Finished).await.unwrap();
        is_done.set(true);
    };
    let making = async {
        let mut made = APIS;
        while !is_done.get() {
            if made < APIS_MAX {
                world.make_api(&running.engine, made).await;
                made += 1;
            }
            let mut sorted = expected(made);
            sorted.sort();
            assert_eq!(world.opened(&running.engine).await, sorted);
            yield_now().await;
        }
        made
    };
    let ((), made) = tokio::join!(rotating, making);
    let after = world.keys();
    assert!(after.is_settled() && after.sealing != before.sealing && made > APIS);
    assert_eq!(world.sealed_otherwise(&after).await, 0);
    running.stop().await.unwrap();
    let running = world.serve().await;
    assert_eq!(world.opened(&running.engine).await.len(), made);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn stopped_after_any_step_it_goes_on_and_a_server_starts_from_there() {
    for until in [Until::Prepared, Until::Sealed] {
        let world = World::new().await;
        let before = world.keys();
        world.rotate(until).await.unwrap();
        let between = world.keys();
        let all = [&between.sealing].into_iter().chain(&between.next).chain(&between.old);
        assert!(all.clone().any(|key| *key == before.sealing) && all.count() == 2);
        assert_eq!(between.next.is_some(), until == Until::Prepared);
        assert_eq!(world.sealed_otherwise(&between).await, 0);
        world.serves().await;
        // The same step once more draws no further key.
        world.rotate(until).await.unwrap();
        assert_eq!(world.keys(), between);
        world.rotate(Until::Finished).await.unwrap();
        world.is_rotated_from(&before).await;
    }
}

#[tokio::test]
async fn killed_between_the_steps_it_goes_on_and_a_server_starts_from_there() {
    for sealed_again in 0..=1 {
        for served in [false, true] {
            let world = World::new().await;
            let before = world.keys();
            world.rotate(Until::Prepared).await.unwrap();
            let promoted = world.keys().promoted();
            replace(&world.file(), &promoted).unwrap();
            left_behind(&world.file());
            if sealed_again > 0 {
                let stores = world.alone().await;
                seal_one(stores.sealed_store().as_ref(), &promoted).await;
                stores.close().await;
            }
            assert!(world.sealed_otherwise(&promoted).await > 0);
            if served {
                world.serves().await;
            }
            world.rotate(Until::Finished).await.unwrap();
            assert_eq!(world.keys(), KeyFile::of(promoted.sealing));
            world.is_rotated_from(&before).await;
        }
    }
}

#[tokio::test]
async fn a_key_of_another_installation_seals_nothing_here() {
    let (world, other) = (World::new().await, World::new().await);
    let right = std::fs::read(world.file()).unwrap();
    std::fs::write(world.file(), std::fs::read(other.file()).unwrap()).unwrap();
    let refused = world.rotate(Until::Finished).await.unwrap_err().to_string();
    assert!(refused.contains("does not hold the key"), "{refused}");
    assert_eq!(world.keys(), other.keys());
    std::fs::write(world.file(), right).unwrap();
    world.serves().await;
}

#[tokio::test]
async fn the_old_key_is_kept_while_something_cannot_be_opened() {
    let world = World::new().await;
    let stores = world.alone().await;
    let store = stores.sealed_store();
    let value = store.credentials_after(None, 1).await.unwrap().values.remove(0);
    let lost = CredentialCipher::new(&[9; 32]).unwrap();
    let SealedPlace::Credential(workspace, api) = &value.place else { panic!("no credential") };
    let foreign = lost.seal(workspace, api, &SecretText::new("lost".to_owned())).unwrap().0;
    assert!(store.replace_sealed(&value, foreign, SystemClock::default().now()).await.unwrap());
    stores.close().await;
    drop((store, stores));
    let before = world.keys();
    let refused = format!("{:#}", world.rotate(Until::Finished).await.unwrap_err());
    assert!(refused.contains("the old key is kept") && refused.contains(api.as_str()), "{refused}");
    assert_eq!(world.keys().old, [before.sealing]);
}

#[tokio::test]
async fn two_rotations_at_once_are_one() {
    let world = World::new().await;
    let _other = RotationLock::take(&world.file()).unwrap();
    let refused = world.rotate(Until::Finished).await.unwrap_err().to_string();
    assert!(refused.contains("somebody else is rotating"), "{refused}");
}

#[tokio::test]
async fn without_an_installation_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong");
    let config = Config::load(None, &[], &[("data.folder", wrong.display().to_string())]).unwrap();
    rotate(&config, Asked::WHOLE, QUICK, |_| Ok(())).await.unwrap_err();
    assert!(!wrong.exists());
}

fn on_postgres(url: &str, folder: &Path) -> Config {
    let flags = [
        ("data.folder", folder.display().to_string()),
        ("stores.kind", "postgres".to_owned()),
        ("stores.postgres.url", url.to_owned()),
    ];
    Config::load(None, &[], &flags).unwrap()
}

#[test]
fn where_replicas_may_have_files_of_their_own_a_run_takes_one_step() {
    let folder = tempfile::tempdir().unwrap();
    let config = on_postgres("postgres://db/name", folder.path());
    let draw = || EncryptionKey::draw().unwrap();
    let settled = KeyFile::of(draw());
    let prepared = KeyFile { next: Some(draw()), ..settled.clone() };
    let promoted = prepared.clone().promoted();
    let until = |asked: Option<Until>, readers, keys| Asked { until: asked, readers }.until(&config, keys);
    for (keys, next) in
        [(&settled, Until::Prepared), (&prepared, Until::Sealed), (&promoted, Until::Finished)]
    {
        let undecided = until(None, KeyFileReaders::Some, keys).unwrap_err().to_string();
        assert!(undecided.contains("--shared-key-file") && undecided.contains("--until"), "{undecided}");
        for step in [Until::Prepared, Until::Sealed, Until::Finished] {
            assert_eq!(until(Some(step), KeyFileReaders::All, keys).unwrap(), step);
            let alone = until(Some(step), KeyFileReaders::Some, keys);
            assert_eq!(alone.is_ok(), step <= next, "{step:?} of {next:?}");
        }
        assert_eq!(until(None, KeyFileReaders::All, keys).unwrap(), Until::Finished);
    }
    let skipped = until(Some(Until::Finished), KeyFileReaders::Some, &settled).unwrap_err().to_string();
    assert!(skipped.contains("the next step is --until prepared"), "{skipped}");
}

#[tokio::test]
async fn on_a_database_a_free_folder_is_not_taken_for_a_sign_that_no_server_runs() {
    let folder = tempfile::tempdir().unwrap();
    let server = rateguard_test_servers::PostgresServer::shared().await.unwrap();
    let config = on_postgres(&server.new_database().await.unwrap(), folder.path());
    let name = DisplayName::parse("workspace", "tests").unwrap();
    let owner = EmailAddress::parse("owner", "owner@example.com").unwrap();
    install(&config, FirstWorkspace { name, zone: Zone::UTC, currency: Currency::USD, owner }).await.unwrap();
    let before = KeyFile::read(&config.encryption_key_file()).unwrap();
    let mut told = Vec::new();
    let asked = Asked { until: None, readers: KeyFileReaders::All };
    rotate(&config, asked, QUICK, |step| {
        told.push(step);
        Ok(())
    })
    .await
    .unwrap();
    let waits = told.iter().filter(|step| step.starts_with("Waiting until")).count();
    assert_eq!(waits, 2, "{told:?}");
    let after = KeyFile::read(&config.encryption_key_file()).unwrap();
    assert!(after.is_settled() && after.sealing != before.sealing);
}
