//! Files that may change while the engine serves: the API keys, and the certificate that the API shows.
//!
//! Looked at once a second on the control thread, and read when they look different or somebody asks (SIGHUP). A file that can't be
//! read leaves what was read before in place: a slip of the pen must not throw everybody out. It is said in the log, counted, and
//! tried again at every look, since what went wrong may leave no trace on the file (no open file was left). At
//! the start it is an error. Keys that are gone are revoked; a key file that is gone is a mistake.
//!
//! A key of an organisation that the engine does not know opens nothing and stops nothing: `clutchcall keys create` can't know the
//! engine's organisations, and one such key must not keep the next revocation from being read.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::Api;
use crate::engine::config::{ApiKey, Config, keyfile};
use crate::engine::metrics::Reloaded;
use crate::net::tls::Identity;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How a file looked from outside: inode, length, times of its content and of itself. What was written anew looks different, also
/// where a copy brings the old time of its content along.
type Stamp = Option<(u64, u64, [i64; 2], [i64; 2])>;

pub struct Files {
    keys: Watched<1>,
    /// Whose keys may stand there; none at all: anybody's.
    orgs: Vec<String>,
    /// There has been a key file.
    had_keys: bool,
    /// Keys of the file that count for nobody.
    skipped: usize,
    shown: Option<Shown>,
}

/// What a key file says.
struct Keys {
    counting: Vec<ApiKey>,
    skipped: usize,
}

/// The certificate of the API, of two files.
struct Shown {
    identity: Identity,
    files: Watched<2>,
}

/// Files that are read together.
struct Watched<const N: usize> {
    paths: [PathBuf; N],
    /// How they looked when they were read well.
    seen: [Stamp; N],
    /// Why the last attempt came to nothing.
    trouble: Option<String>,
}

impl Files {
    /// Reads them all.
    pub fn open(config: &Config) -> Result<(Self, Vec<ApiKey>), String> {
        let orgs: Vec<String> = config.orgs.keys().cloned().collect();
        let keys = Watched::new([config.api.keys_file.clone()]);
        let had_keys = keys.seen[0].is_some();
        let Keys { counting, skipped } = read_keys(&keys.paths[0], &orgs, had_keys)?;
        let shown = config.api.certificate.as_ref().map(|(chain, key)| Shown::read(chain, key, &config.state));
        Ok((Self { keys, orgs, had_keys, skipped, shown: shown.transpose()? }, counting))
    }

    /// How connections are made secret; `None`: they are not.
    pub fn tls(&self) -> Result<Option<TlsAcceptor>, String> {
        self.shown.as_ref().map(|shown| shown.identity.https().map(TlsAcceptor::from)).transpose()
    }

    /// Never ends.
    pub async fn keep(mut self, api: &Api, asked: &Notify) {
        api.metrics.keys_skipped(self.skipped);
        loop {
            let told = tokio::time::timeout(LOOK_EVERY, asked.notified()).await.is_ok();
            if told && api.gate.fixed() > 0 {
                let (keys, file) = (api.gate.fixed(), self.keys.paths[0].display());
                tracing::info!(
                    keys,
                    "keys of the engine's own settings ([[keys]]) count until it ends: those of {file} come and go"
                );
            }
            self.look_at_keys(api, told);
            if let Some(shown) = &mut self.shown {
                shown.look(api, told);
            }
        }
    }

    fn look_at_keys(&mut self, api: &Api, told: bool) {
        let Self { keys, orgs, had_keys, .. } = self;
        let path = keys.paths[0].clone();
        *had_keys |= stamp(&path).is_some();
        if !*had_keys {
            return;
        }
        match keys.look(told, || read_keys(&path, orgs, *had_keys)) {
            None => {}
            Some(Ok(Keys { counting, skipped })) => {
                api.gate.replace(counting);
                api.metrics.keys_skipped(skipped);
                tracing::info!(keys = api.gate.len(), file = %path.display(), "API keys were read again");
                api.metrics.reloaded(Reloaded::Keys, true);
            }
            Some(Err(failed)) => {
                if let Some(error) = failed.news {
                    tracing::error!("the API keys stay as they were: {error}");
                }
                api.metrics.reloaded(Reloaded::Keys, false);
            }
        }
    }
}

fn read_keys(path: &Path, orgs: &[String], had_keys: bool) -> Result<Keys, String> {
    let shown = path.display();
    let entries = match keyfile::read(path)? {
        Some(entries) => entries,
        None if had_keys => {
            return Err(format!("{shown} has gone: put it back, an empty one revokes its keys"));
        }
        None => Vec::new(),
    };
    let mut keys = Keys { counting: Vec::with_capacity(entries.len()), skipped: 0 };
    for key in entries.into_iter().map(|entry| entry.key) {
        if orgs.is_empty() || orgs.contains(&key.org) {
            keys.counting.push(key);
            continue;
        }
        keys.skipped += 1;
        tracing::warn!(key = key.id(), "{shown}: the key counts for nobody: there is no [orgs.{}]", key.org);
    }
    Ok(keys)
}

/// An attempt to read that came to nothing.
#[derive(Debug, PartialEq, Eq)]
struct Failed {
    /// Why, where that was not said before.
    news: Option<String>,
}

impl<const N: usize> Watched<N> {
    /// Files that are read right behind this.
    fn new(paths: [PathBuf; N]) -> Self {
        Self { seen: paths.each_ref().map(|path| stamp(path)), paths, trouble: None }
    }

    /// Reads when they look different, when the last attempt failed, or when somebody asked for it; `None`: there was no need. What
    /// is written meanwhile is read at the next look.
    fn look<T>(&mut self, told: bool, read: impl FnOnce() -> Result<T, String>) -> Option<Result<T, Failed>> {
        let seen = self.paths.each_ref().map(|path| stamp(path));
        if !told && self.trouble.is_none() && seen == self.seen {
            return None;
        }
        Some(match read() {
            Ok(content) => {
                (self.seen, self.trouble) = (seen, None);
                Ok(content)
            }
            Err(error) => {
                let is_news = told || self.trouble.as_ref() != Some(&error);
                self.trouble = Some(error.clone());
                Err(Failed { news: is_news.then_some(error) })
            }
        })
    }
}

impl Shown {
    fn read(chain: &Path, key: &Path, state: &Path) -> Result<Self, String> {
        let files = Watched::new([chain.to_owned(), key.to_owned()]);
        let identity = Identity::from_pem(chain, key, state).map_err(|error| format!("api.certificate: {error}"))?;
        Ok(Self { identity, files })
    }

    /// Chain and key are two files: between the two writes they don't fit, and the old pair goes on.
    fn look(&mut self, api: &Api, told: bool) {
        let Self { identity, files } = self;
        match files.look(told, || identity.renew()) {
            None => {}
            Some(Ok(changed)) => {
                tracing::info!(changed, "the API's certificate was read again");
                api.metrics.reloaded(Reloaded::Certificate, true);
            }
            Some(Err(failed)) => {
                if let Some(error) = failed.news {
                    tracing::error!("the API's old certificate goes on: {error}");
                }
                api.metrics.reloaded(Reloaded::Certificate, false);
            }
        }
    }
}

fn stamp(file: &Path) -> Stamp {
    let seen = std::fs::metadata(file).ok()?;
    let (content, itself) = ([seen.mtime(), seen.mtime_nsec()], [seen.ctime(), seen.ctime_nsec()]);
    Some((seen.ino(), seen.len(), content, itself))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn watched(folder: &tempfile::TempDir) -> Watched<1> {
        let path = folder.path().join("keys.toml");
        std::fs::write(&path, "old").unwrap();
        Watched::new([path])
    }

    fn no_file() -> Result<(), String> {
        Err("too many open files".to_owned())
    }

    #[test]
    fn what_could_not_be_read_is_read_at_the_next_look() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = watched(&folder);
        assert_eq!(files.look(false, || Ok(())), None, "it was read at the start");
        std::fs::write(&files.paths[0], "newer").unwrap();
        let first = files.look(false, no_file);
        assert!(first.unwrap().unwrap_err().news.unwrap().contains("open files"));
        assert_eq!(files.look(false, no_file), Some(Err(Failed { news: None })), "said once");
        let asked = files.look(true, no_file);
        assert!(asked.unwrap().unwrap_err().news.is_some(), "who asks is told");
        let other = files.look(false, || Err::<(), _>("another".to_owned()));
        assert_eq!(other, Some(Err(Failed { news: Some("another".to_owned()) })));
        assert_eq!(files.look(false, || Ok("newer")), Some(Ok("newer")));
        assert_eq!(files.look(false, || Ok(())), None);
        assert_eq!(files.look(true, || Ok(())), Some(Ok(())), "asked for");
    }

    #[test]
    fn a_file_of_the_same_length_and_age_looks_different() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = watched(&folder);
        let file = std::fs::File::options().write(true).open(&files.paths[0]).unwrap();
        let age: SystemTime = file.metadata().unwrap().modified().unwrap();
        let before = files.seen[0].unwrap();
        // The clock of a file system is coarse.
        let mut now = before;
        for _ in 0..10_000 {
            std::fs::write(&files.paths[0], "new").unwrap();
            file.set_modified(age).unwrap();
            now = stamp(&files.paths[0]).unwrap();
            if now != before {
                break;
            }
            std::thread::yield_now();
        }
        assert_eq!((now.0, now.1, now.2), (before.0, before.1, before.2));
        assert_eq!(files.look(false, || Ok(())), Some(Ok(())));
    }
}
