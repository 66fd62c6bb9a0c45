//! Files that may change while the engine serves: the API keys, and the certificate that the API shows.
//!
//! Looked at once a second on the control thread, and read when they look different or somebody asks (SIGHUP). A file that can't be
//! read leaves what was read before in place: a slip of the pen must not throw everybody out. It is said in the log, counted, and
//! tried again at every look, since what went wrong may leave no trace on the file (no open file was left). At
//! the start it is an error. Keys that are gone are revoked; a key file that is gone is a mistake.
//!
//! A key of an organisation that the engine does not know opens nothing and stops nothing: `clutchcall keys create` can't know the
//! engine's organisations, and one such key must not keep the next revocation from being read.

use std::path::Path;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::Api;
use crate::engine::config::{ApiKey, Config, keyfile};
use crate::engine::metrics::Reloaded;
use crate::engine::watched::Watched;
use crate::net::tls::Identity;

/// What the server speaks (ALPN).
const HTTP: &[&str] = &["http/1.1"];
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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

impl Files {
    /// Reads them all.
    pub fn open(config: &Config) -> Result<(Self, Vec<ApiKey>), String> {
        let orgs: Vec<String> = config.orgs.keys().cloned().collect();
        let keys = Watched::new([config.api.keys_file.clone()]);
        let had_keys = keys.is_there();
        let Keys { counting, skipped } = read_keys(&keys.paths[0], &orgs, had_keys)?;
        let shown = config.api.certificate.as_ref().map(|(chain, key)| Shown::read(chain, key, &config.state));
        Ok((Self { keys, orgs, had_keys, skipped, shown: shown.transpose()? }, counting))
    }

    /// How connections are made secret; `None`: they are not.
    pub fn tls(&self) -> Result<Option<TlsAcceptor>, String> {
        self.shown.as_ref().map(|shown| shown.identity.over_tcp(HTTP).map(TlsAcceptor::from)).transpose()
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
        *had_keys |= path.exists();
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
