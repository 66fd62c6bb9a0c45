//! Whose tokens count now: public keys and the list of revoked tokens, from settings and from files that may change.
//!
//! [`KeySources`] says where they come from, [`Keyring`] is what they came to. The control thread reads the files again when
//! they change or when somebody asks; the shards take the new ring at their next turn. A file that can't be read later leaves the
//! old ring in place: a slip of the pen must not throw everybody out.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::token::{KeySet, Revoked};

/// Where keys and revocations come from.
#[derive(Clone, Debug, Default)]
pub struct KeySources {
    /// Keys that don't change while the relay runs.
    pub fixed: KeySet,
    /// Files with one public key a line ([`KeySet::read`]).
    pub files: Vec<PathBuf>,
    /// A file with one revoked token a line ([`Revoked::read`]).
    pub revoked: Option<PathBuf>,
}

/// What counts now.
#[derive(Clone, Debug, Default)]
pub(super) struct Keyring {
    pub(super) keys: KeySet,
    pub(super) revoked: Revoked,
}

/// How a file looked from outside; what was written anew looks different.
pub(super) type Stamp = Vec<Option<(u64, u64, i64, i64)>>;

impl KeySources {
    /// Reads every file. The error names it and the remedy.
    pub(super) fn load(&self) -> Result<Keyring, String> {
        let mut keys = self.fixed.clone();
        for file in &self.files {
            let read = KeySet::read(&text(file)?).map_err(|error| format!("{}, {error}", file.display()))?;
            keys = keys.plus(read);
        }
        let revoked = match &self.revoked {
            Some(file) => {
                let told = text(file).map_err(|error| format!("revoked: {error}"))?;
                Revoked::read(&told).map_err(|error| format!("revoked: {}, {error}", file.display()))?
            }
            None => Revoked::default(),
        };
        Ok(Keyring { keys, revoked })
    }

    /// Whether there is a file that may change.
    pub(super) fn has_files(&self) -> bool {
        !self.files.is_empty() || self.revoked.is_some()
    }

    pub(super) fn stamp(&self) -> Stamp {
        let look = |file: &PathBuf| {
            let seen = std::fs::metadata(file).ok()?;
            Some((seen.ino(), seen.len(), seen.mtime(), seen.mtime_nsec()))
        };
        self.files.iter().chain(&self.revoked).map(look).collect()
    }
}

impl From<KeySet> for KeySources {
    fn from(fixed: KeySet) -> Self {
        Self { fixed, ..Self::default() }
    }
}

fn text(file: &Path) -> Result<String, String> {
    crate::files::text(file, crate::files::SETTINGS)
        .map_err(|error| format!("{} can't be read: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::SigningKey;

    #[test]
    fn keys_of_all_sources_count_and_a_wrong_line_is_named() {
        let key = || SigningKey::generate(&ring::rand::SystemRandom::new()).unwrap().0.public();
        let (fixed, old, new) = (key(), key(), key());
        let folder = tempfile::tempdir().unwrap();
        let (keys, revoked) = (folder.path().join("keys"), folder.path().join("revoked"));
        std::fs::write(&keys, format!("{old}\n{new}\n")).unwrap();
        std::fs::write(&revoked, "# nobody yet\n").unwrap();
        let sources = KeySources {
            files: vec![keys.clone()],
            revoked: Some(revoked.clone()),
            ..KeySet::from_iter([fixed]).into()
        };
        let ring = sources.load().unwrap();
        for key in [fixed, old, new] {
            assert!(ring.keys.contains(&key));
        }
        let before = sources.stamp();
        std::fs::write(&keys, format!("{new}\n")).unwrap();
        assert_ne!(sources.stamp(), before);
        assert!(!sources.load().unwrap().keys.contains(&old));
        std::fs::write(&revoked, "jti 7\nsub\n").unwrap();
        let error = sources.load().unwrap_err();
        assert!(error.contains("revoked, line 2") && error.contains("jti NAME"), "{error}");
        std::fs::remove_file(&keys).unwrap();
        assert!(sources.load().unwrap_err().contains("keys can't be read"));
    }
}
