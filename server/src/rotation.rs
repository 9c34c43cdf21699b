//! Changing the encryption key, while the server serves or while none does.
//!
//! Four steps, each of which leaves a state from which every server starts and this goes on: the new key is
//! written down beside the present one; it takes its place, and everything new is sealed with it; everything
//! old is sealed again; the old key is dropped. What step it is stands in the key file and in what is stored,
//! nowhere else.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rateguard_engine::clock::{Clock, SystemClock};
use rateguard_engine::ports::SealedValues;
use rateguard_engine::reseal::{KEYS_READ_INTERVAL, Resealed, reseal, sealed_otherwise};
use rateguard_engine::secrets::{CredentialCipher, EncryptionKey, SealedPlace};
use tokio::time::{Instant, sleep};

use crate::config::{Config, StoresKind};
use crate::keyfile::{KeyFile, RotationLock, replace};
use crate::wiring::{OpenStores, sealed_values};

/// How often what a server has sealed again is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Looks of one pass over what is stored that others may undo by their changes.
const PASSES_MAX: usize = 100;

/// How far a rotation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Until {
    /// The new key stands in the file, and nothing is sealed with it
    Prepared,
    /// Everything is sealed with it, and the old key still stands in the file
    Sealed,
    /// The old key is gone
    Finished,
}

/// Who reads the key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFileReaders {
    /// Every server of the installation: a change of it is known to all.
    All,
    /// Perhaps only those on this machine. Others have copies, which somebody has to bring there.
    Some,
}

/// What somebody wants of a rotation.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// How far to go; `None` for as far as it goes.
    pub until: Option<Until>,
    /// Who reads the key file.
    pub readers: KeyFileReaders,
}

impl Asked {
    /// As far as it goes, over one data folder.
    pub const WHOLE: Self = Self { until: None, readers: KeyFileReaders::Some };

    /// How far to go, where the file reaches every server or is brought to them between the steps. The
    /// server of a data folder is on its machine, and reads its file; those of a database are anywhere.
    fn until(self, config: &Config, keys: &KeyFile) -> anyhow::Result<Until> {
        if config.stores.kind == StoresKind::Sqlite || self.readers == KeyFileReaders::All {
            return Ok(self.until.unwrap_or(Until::Finished));
        }
        let until = self.until.context(
            "replicas may run on other machines, with key files of their own: give --shared-key-file where all of \
             them read this file; else go step by step, --until prepared, sealed and finished, and bring the file \
             to every machine after each",
        )?;
        let next = next_step(keys);
        ensure!(
            until <= next,
            "the next step is --until {}: after it, bring {} to every machine, and only then go on",
            next.as_str(),
            config.encryption_key_file().display()
        );
        Ok(until)
    }
}

/// The step that every server can take part in that has the file as it is.
fn next_step(keys: &KeyFile) -> Until {
    match (keys.is_settled(), &keys.next) {
        (true, _) => Until::Prepared,
        (false, Some(_)) => Until::Sealed,
        (false, None) => Until::Finished,
    }
}

impl Until {
    fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Sealed => "sealed",
            Self::Finished => "finished",
        }
    }
}

/// How long it waits for servers.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Within what time every server knows what the file says.
    pub known_within: Duration,
    /// Within what time after that it has stored what it sealed before.
    pub stored_within: Duration,
    /// How long a server may take without sealing anything again.
    pub stalled_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            known_within: 3 * KEYS_READ_INTERVAL,
            // A store's deadlines are 10 s for the statements of a change, and as much for its commit.
            stored_within: Duration::from_secs(20),
            stalled_max: Duration::from_secs(60),
        }
    }
}

/// Who has sealed everything again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// This process, which had the installation for itself.
    Us,
    /// Servers, or this process beside them.
    Servers,
}

/// Changes the encryption key, or goes on with a change that was cut off. `tell` is told of each step.
///
/// # Errors
/// When the file cannot be replaced, or does not hold the installation's key; when no server seals again what
/// is there, or something cannot be opened; when servers elsewhere could miss a step. Both keys stay in the file
/// then.
pub async fn rotate(
    config: &Config,
    asked: Asked,
    patience: Patience,
    mut tell: impl FnMut(String) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let file = config.encryption_key_file();
    let _one_at_a_time = RotationLock::take(&file)?;
    let reader = sealed_values(config).await?;
    let until = asked.until(config, &KeyFile::read(&file)?)?;
    let rotation = Rotation { config, file, reader, readers: asked.readers, patience };
    let keys = rotation.prepare(&mut tell).await?;
    if until == Until::Prepared {
        return Ok(());
    }
    let keys = rotation.promote(keys, &mut tell).await?;
    let by = rotation.seal_everything(&keys).await?;
    if until == Until::Sealed {
        return tell("Everything is sealed with it; the old key is kept.".to_owned());
    }
    rotation.finish(keys, by, &mut tell).await
}

/// What its steps have in common.
struct Rotation<'a> {
    config: &'a Config,
    file: PathBuf,
    reader: Arc<dyn SealedValues>,
    readers: KeyFileReaders,
    patience: Patience,
}

/// Told of each step.
type Tell<'a> = &'a mut dyn FnMut(String) -> anyhow::Result<()>;

impl Rotation<'_> {
    /// Writes a new key down beside the present one, unless a rotation is under way.
    async fn prepare(&self, tell: Tell<'_>) -> anyhow::Result<KeyFile> {
        let mut keys = KeyFile::read(&self.file)?;
        self.check(&keys).await?;
        if keys.is_settled() {
            keys.next = Some(draw_beside(&keys.sealing)?);
            replace(&self.file, &keys)?;
        }
        if let Some(next) = &keys.next {
            tell(format!("The new key {} stands in {}.", next.id(), self.file.display()))?;
        }
        Ok(keys)
    }

    /// Puts the new key in the place of the present one, once every server knows it.
    async fn promote(&self, mut keys: KeyFile, tell: Tell<'_>) -> anyhow::Result<KeyFile> {
        if keys.next.is_some() {
            if is_served(self.config).await? {
                tell("Waiting until every server knows it.".to_owned())?;
                sleep(self.patience.known_within).await;
            }
            keys = keys.promoted();
            replace(&self.file, &keys)?;
        }
        tell(format!("Sealing everything with the key {}.", keys.sealing.id()))?;
        Ok(keys)
    }

    /// Drops the old key, once nothing can turn up that it has sealed.
    async fn finish(&self, keys: KeyFile, by: By, tell: Tell<'_>) -> anyhow::Result<()> {
        if by == By::Servers {
            tell("Waiting until nothing can be on its way that the old key has sealed.".to_owned())?;
            sleep(self.patience.known_within + self.patience.stored_within).await;
            self.check_nobody_seals_otherwise(&keys).await?;
            self.seal_everything(&keys).await?;
        }
        let old: Vec<String> = keys.old_ids().iter().map(ToString::to_string).collect();
        replace(&self.file, &KeyFile::of(keys.sealing))?;
        tell(format!("Done: {} no longer stands in {}.", old.join(", "), self.file.display()))
    }

    /// A replica that has an older copy of the file seals again with the old key by itself. To drop that one
    /// here would leave this replica without what the other one seals.
    async fn check_nobody_seals_otherwise(&self, keys: &KeyFile) -> anyhow::Result<()> {
        if self.config.stores.kind == StoresKind::Sqlite || self.readers == KeyFileReaders::All {
            return Ok(());
        }
        let others = sealed_otherwise(self.reader.as_ref(), keys.sealing.id()).await?;
        ensure!(
            others == 0,
            "{others} values were sealed with another key meanwhile: bring {} to every machine, and run this again; \
             both keys are kept",
            self.file.display()
        );
        Ok(())
    }

    /// Keys of another installation would lose what is sealed here.
    async fn check(&self, keys: &KeyFile) -> anyhow::Result<()> {
        let singly = self.reader.sealed_singly().await?;
        let check = singly.iter().find(|value| value.place == SealedPlace::Check);
        let cipher = CredentialCipher::with_ring(keys.ring());
        ensure!(
            check.is_none_or(|check| cipher.knows(&check.sealed)),
            "{} does not hold the key that this installation's credentials are sealed with; put that one back, for \
             example from a backup",
            self.file.display()
        );
        Ok(())
    }

    /// Waits until a server has sealed everything again, or does it where none has the data folder.
    async fn seal_everything(&self, keys: &KeyFile) -> anyhow::Result<By> {
        let (mut least, mut moved_at) = (usize::MAX, Instant::now());
        loop {
            if let Some(stores) = OpenStores::open_unless_in_use(self.config).await? {
                let sealed = seal_here(&stores, keys).await;
                stores.close().await;
                return sealed.map(|()| self.by());
            }
            let left = sealed_otherwise(self.reader.as_ref(), keys.sealing.id()).await?;
            if left == 0 {
                return Ok(By::Servers);
            }
            if left < least {
                (least, moved_at) = (left, Instant::now());
            }
            ensure!(moved_at.elapsed() <= self.patience.stalled_max, self.stalled(left));
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Who may have sealed besides, where this process had the data folder. That of a database is only one
    /// replica's, and the others go on.
    fn by(&self) -> By {
        match self.config.stores.kind {
            StoresKind::Sqlite => By::Us,
            StoresKind::Postgres => By::Servers,
        }
    }

    fn stalled(&self, left: usize) -> String {
        format!(
            "the server that has {} has not sealed {left} values again for {} s: its log says why; is it of this \
             version, and does it read {}? Both keys are kept, and this can be run again",
            self.config.data.folder.display(),
            self.patience.stalled_max.as_secs(),
            self.file.display()
        )
    }
}

/// Keys are told apart by the first bytes of their hashes.
fn draw_beside(present: &EncryptionKey) -> anyhow::Result<EncryptionKey> {
    loop {
        let drawn = EncryptionKey::draw()?;
        if drawn.id() != present.id() {
            return Ok(drawn);
        }
    }
}

/// Whether another process serves the installation, as far as can be known: a database may be served from
/// anywhere.
async fn is_served(config: &Config) -> anyhow::Result<bool> {
    if config.stores.kind == StoresKind::Postgres {
        return Ok(true);
    }
    match OpenStores::open_unless_in_use(config).await? {
        Some(stores) => {
            stores.close().await;
            Ok(false)
        }
        None => Ok(true),
    }
}

async fn seal_here(stores: &OpenStores, keys: &KeyFile) -> anyhow::Result<()> {
    let cipher = CredentialCipher::with_ring(keys.ring());
    let store = stores.sealed_store();
    for _ in 0..PASSES_MAX {
        let done: Resealed = reseal(store.as_ref(), &cipher, SystemClock::default().now()).await?;
        if let Some(unopened) = done.unopened() {
            return Err(unopened).context(
                "the old key is kept; put the missing key back into the file, or set these credentials anew",
            );
        }
        if done.is_whole() {
            return Ok(());
        }
    }
    bail!("what is stored changes faster than it can be sealed again; run this once more")
}

#[cfg(test)]
mod tests;
