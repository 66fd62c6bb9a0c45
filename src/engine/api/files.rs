//! Files that may change while the engine serves: the API keys, and the certificate that the API shows.
//!
//! Looked at once a second on the control thread, and read when they look different or somebody asks (SIGHUP). A file that can't be
//! read leaves what was read before in place: a slip of the pen must not throw everybody out. It is said in the log and counted. At
//! the start it is an error. Keys that are gone are revoked; a key file that is gone is a mistake.

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

/// How a file looked from outside; what was written anew looks different.
type Stamp = Option<(u64, u64, i64, i64)>;

pub struct Files {
    keys: PathBuf,
    /// Whose keys may stand there; none at all: anybody's.
    orgs: Vec<String>,
    keys_seen: Stamp,
    /// There has been a key file.
    had_keys: bool,
    shown: Option<Shown>,
}

/// The certificate of the API, and how its two files looked.
struct Shown {
    identity: Identity,
    files: [PathBuf; 2],
    seen: [Stamp; 2],
}

impl Files {
    /// Reads them all.
    pub fn open(config: &Config) -> Result<(Self, Vec<ApiKey>), String> {
        let (path, orgs) = (config.api.keys_file.clone(), config.orgs.keys().cloned().collect());
        let keys_seen = stamp(&path);
        let shown = config.api.certificate.as_ref().map(|(chain, key)| Shown::read(chain, key, &config.state));
        let files = Self { keys: path, orgs, had_keys: keys_seen.is_some(), keys_seen, shown: shown.transpose()? };
        let keys = files.read_keys()?;
        Ok((files, keys))
    }

    /// How connections are made secret; `None`: they are not.
    pub fn tls(&self) -> Result<Option<TlsAcceptor>, String> {
        self.shown.as_ref().map(|shown| shown.identity.https().map(TlsAcceptor::from)).transpose()
    }

    /// Never ends.
    pub async fn keep(mut self, api: &Api, asked: &Notify) {
        loop {
            let told = tokio::time::timeout(LOOK_EVERY, asked.notified()).await.is_ok();
            self.look_at_keys(api, told);
            if let Some(shown) = &mut self.shown {
                shown.look(api, told);
            }
        }
    }

    fn look_at_keys(&mut self, api: &Api, told: bool) {
        let seen = stamp(&self.keys);
        self.had_keys |= seen.is_some();
        if !self.had_keys || !told && seen == self.keys_seen {
            return;
        }
        self.keys_seen = seen;
        match self.read_keys() {
            Ok(keys) => {
                api.gate.replace(keys);
                tracing::info!(keys = api.gate.len(), file = %self.keys.display(), "API keys were read again");
                api.metrics.reloaded(Reloaded::Keys, true);
            }
            Err(error) => {
                tracing::error!("the API keys stay as they were: {error}");
                api.metrics.reloaded(Reloaded::Keys, false);
            }
        }
    }

    fn read_keys(&self) -> Result<Vec<ApiKey>, String> {
        let shown = self.keys.display();
        let entries = match keyfile::read(&self.keys)? {
            Some(entries) => entries,
            None if self.had_keys => {
                return Err(format!("{shown} has gone: put it back, an empty one revokes its keys"));
            }
            None => Vec::new(),
        };
        match entries.iter().find(|entry| !self.orgs.is_empty() && !self.orgs.contains(&entry.key.org)) {
            Some(entry) => {
                let org = &entry.key.org;
                Err(format!("{shown}: {} is of {org:?}, and there is no [orgs.{org}]", entry.key.id()))
            }
            None => Ok(entries.into_iter().map(|entry| entry.key).collect()),
        }
    }
}

impl Shown {
    fn read(chain: &Path, key: &Path, state: &Path) -> Result<Self, String> {
        let files = [chain.to_owned(), key.to_owned()];
        let seen = [stamp(chain), stamp(key)];
        let identity = Identity::from_pem(chain, key, state).map_err(|error| format!("api.certificate: {error}"))?;
        Ok(Self { identity, files, seen })
    }

    /// Chain and key are two files: between the two writes they don't fit, and the old pair goes on.
    fn look(&mut self, api: &Api, told: bool) {
        let seen = [stamp(&self.files[0]), stamp(&self.files[1])];
        if !told && seen == self.seen {
            return;
        }
        self.seen = seen;
        match self.identity.renew() {
            Ok(changed) => {
                tracing::info!(changed, "the API's certificate was read again");
                api.metrics.reloaded(Reloaded::Certificate, true);
            }
            Err(error) => {
                tracing::error!("the API's old certificate goes on: {error}");
                api.metrics.reloaded(Reloaded::Certificate, false);
            }
        }
    }
}

fn stamp(file: &Path) -> Stamp {
    let seen = std::fs::metadata(file).ok()?;
    Some((seen.ino(), seen.len(), seen.mtime(), seen.mtime_nsec()))
}
