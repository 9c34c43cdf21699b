//! What the file of encryption keys holds: one key a line, in 64 hexadecimal digits. The first one seals,
//! and all of them open. A line that begins with `next` holds the key that is to seal next: it is known
//! everywhere before it is used.

use std::path::Path;

use anyhow::{Context, anyhow, bail, ensure};
use rateguard_engine::secrets::{EncryptionKey, EncryptionKeyId, KEYS_PER_RING_MAX, KeyRing, SecretText};
use zeroize::Zeroizing;

/// What stands in front of a key that does not seal yet.
const NEXT: &str = "next";

/// The keys of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// The one that seals.
    pub sealing: EncryptionKey,
    /// The one that is to seal next.
    pub next: Option<EncryptionKey>,
    /// Those that something may still be sealed with.
    pub old: Vec<EncryptionKey>,
}

impl KeyFile {
    /// A file of one key.
    pub fn of(sealing: EncryptionKey) -> Self {
        Self { sealing, next: None, old: Vec::new() }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it is missing, may be read by others, or holds anything but keys.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        Self::parse(&super::read_private(path)?).map_err(|error| anyhow!("{}: {error}", path.display()))
    }

    fn parse(text: &SecretText) -> anyhow::Result<Self> {
        let (mut sealing, mut next, mut old) = (None, None, Vec::new());
        // The keys are taken out of it, and it is wiped.
        let lines = text.expose().lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
        for (place, line) in lines {
            match line.strip_prefix(NEXT) {
                None if sealing.is_none() => sealing = Some(key(line, place)?),
                None => old.push(key(line, place)?),
                Some(rest) if next.is_none() => next = Some(key(rest.trim(), place)?),
                Some(_) => bail!("only one line may begin with {NEXT:?}"),
            }
        }
        let Some(sealing) = sealing else {
            bail!("the file must hold 64 hexadecimal digits in its first line")
        };
        let file = Self { sealing, next, old };
        ensure!(file.keys().count() <= KEYS_PER_RING_MAX, "there must be at most {KEYS_PER_RING_MAX} keys");
        Ok(file)
    }

    /// The file's text.
    pub fn to_text(&self) -> SecretText {
        let line = |mark: &str, key: &EncryptionKey| {
            // It goes to the one file that keeps it.
            Zeroizing::new(format!("{mark}{}\n", key.to_hex().expose()))
        };
        let next = self.next.iter().map(|key| line("next ", key));
        let lines = std::iter::once(line("", &self.sealing)).chain(next);
        let lines = lines.chain(self.old.iter().map(|key| line("", key)));
        SecretText::new(lines.fold(String::new(), |text, line| text + &line))
    }

    /// The keys as a cipher takes them.
    pub fn ring(&self) -> KeyRing {
        let others = self.next.iter().chain(&self.old).cloned().collect();
        KeyRing::new(self.sealing.clone(), others)
    }

    /// Whether there is one key, so that no rotation is under way.
    pub fn is_settled(&self) -> bool {
        self.next.is_none() && self.old.is_empty()
    }

    /// The same with the next key in use, and the present one kept.
    #[must_use]
    pub fn promoted(self) -> Self {
        let Self { sealing, next, mut old } = self;
        match next {
            None => Self { sealing, next: None, old },
            Some(next) => {
                old.insert(0, sealing);
                Self { sealing: next, next: None, old }
            }
        }
    }

    /// The names of the keys that are there for what is old.
    pub fn old_ids(&self) -> Vec<EncryptionKeyId> {
        self.old.iter().map(EncryptionKey::id).collect()
    }

    fn keys(&self) -> impl Iterator<Item = &EncryptionKey> {
        std::iter::once(&self.sealing).chain(&self.next).chain(&self.old)
    }
}

fn key(digits: &str, place: usize) -> anyhow::Result<EncryptionKey> {
    let bytes = hex::decode(digits).map(Zeroizing::new).ok();
    let key = bytes.and_then(|bytes| EncryptionKey::new(&bytes).ok());
    key.with_context(|| format!("line {} must hold 64 hexadecimal digits", place + 1))
}
