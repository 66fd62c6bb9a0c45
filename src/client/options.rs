//! Where the control plane is and who asks.
//!
//! Each setting is looked for in this order: the argument, the environment, a profile of the user's file of settings ([`profile`](super::profile)),
//! a running `clutchcall dev` on this machine (which leaves a [`DevState`] file while it runs). A setting that is found nowhere is an error that names it. Nothing is
//! connected here, and a key never stands in a message or a `Debug`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use url::Url;

use super::profile::Profile;
use super::retry::Pace;
use crate::error::{Error, Result};
use crate::files;
use crate::moqt::Drafts;
use crate::net::shown::{is_doubtful, shown};

/// The whole of one operation, its retries included.
const TIMEOUT_S: f64 = 30.0;
/// One attempt to connect.
const CONNECT_TIMEOUT_S: f64 = 5.0;
/// After the first attempt.
const MAX_RETRIES: u32 = 2;
/// No timeout is longer: what waits for a day waits for ever.
const LONGEST_TIMEOUT_S: f64 = 86_400.0;
const MOST_RETRIES: u32 = 10;
/// Bridges on one connection; what the engine says stands below it.
const POOL: u32 = 32;
/// A credentials or state file is a few lines.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// What the user wrote; absent means: look further.
#[derive(Clone, Default)]
pub struct Arguments {
    pub base_url: Option<String>,
    pub api_key: Option<String>,
    pub org_id: Option<String>,
    pub relay_host: Option<String>,
    /// Name of the profile that serves what is given nowhere else.
    pub profile: Option<String>,
    pub pool: Option<u32>,
    pub drafts: Vec<String>,
    pub timeout_s: Option<f64>,
    pub connect_timeout_s: Option<f64>,
    pub max_retries: Option<u32>,
    /// Path of a PEM file.
    pub ca_file: Option<String>,
}

/// What an [`Arguments`] became.
#[derive(Clone)]
pub struct Options {
    /// Without a slash at its end.
    pub base_url: Url,
    pub api_key: String,
    pub org_id: String,
    /// Replaces the host of the relay that a token answer names.
    pub relay_host: Option<String>,
    /// At most so many bridges on one connection, where the engine lets them share one.
    pub pool: usize,
    /// Drafts of MoQT that a relay is offered, the preferred first.
    pub drafts: Drafts,
    pub timeout: Duration,
    pub connect_timeout: Duration,
    pub max_retries: u32,
    pub(super) pace: Pace,
    /// Authorities that alone are trusted; empty: the machine's.
    pub roots: Vec<CertificateDer<'static>>,
}

/// What `clutchcall dev` leaves in [`dev_state_path`] while it runs: a JSON object.
#[derive(Clone, Serialize, Deserialize)]
pub struct DevState {
    pub pid: u32,
    pub base_url: String,
    pub api_key: String,
    pub org_id: String,
}

/// A JSON credentials file; unknown fields are skipped.
#[derive(Deserialize)]
struct Credentials {
    api_key: String,
    #[serde(default)]
    base_url: Option<String>,
    #[serde(default)]
    org_id: Option<String>,
}

/// The surroundings that settings are looked for in.
pub struct Surroundings<'a> {
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    pub dev_state: Option<DevState>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("base_url", &self.base_url.as_str())
            .field("org_id", &self.org_id)
            .field("relay_host", &self.relay_host)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// From the arguments, this process's environment and this machine.
    pub fn find(arguments: Arguments) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok();
        let dev_state = dev_state_path(&variable).and_then(|path| running_dev(&path));
        Self::resolve(arguments, &Surroundings { variable: &variable, dev_state })
    }

    pub fn resolve(arguments: Arguments, surroundings: &Surroundings<'_>) -> Result<Self> {
        let limits = (
            seconds("timeout", arguments.timeout_s, TIMEOUT_S)?,
            seconds("connect_timeout", arguments.connect_timeout_s, CONNECT_TIMEOUT_S)?,
            retries(arguments.max_retries)?,
        );
        let pool = surroundings.pool(arguments.pool)?;
        let drafts = surroundings.drafts(&arguments.drafts)?;
        let roots = surroundings.roots(arguments.ca_file)?;
        let credentials = surroundings.credentials()?;
        let (file_key, file_url, file_org) = match credentials {
            Some(file) => (Some(file.api_key), file.base_url, file.org_id),
            None => (None, None, None),
        };
        let profile = surroundings.profile(arguments.profile.as_deref())?;
        let dev = surroundings.dev_state.clone();
        let url = profile.base_url.as_ref().or(dev.as_ref().map(|dev| &dev.base_url));
        let base_url = surroundings.setting("base_url", arguments.base_url, file_url, url)?;
        // A key goes to the engine it was made for only: neither a profile's nor the dev engine's is sent elsewhere.
        let same = |url: &String| url.trim().trim_end_matches('/') == base_url.trim().trim_end_matches('/');
        let profile = if profile.base_url.as_ref().is_none_or(same) { profile } else { Profile::default() };
        let dev = dev.filter(|dev| same(&dev.base_url));
        let (dev_key, dev_org) = (dev.as_ref().map(|dev| &dev.api_key), dev.as_ref().map(|dev| &dev.org_id));
        let key = profile.api_key.as_ref().or(dev_key);
        let api_key = surroundings.setting("api_key", arguments.api_key, file_key, key)?;
        let org = profile.org_id.as_ref().or(dev_org);
        let org_id = surroundings.setting("org_id", arguments.org_id, file_org, org)?;
        let relay_host = arguments.relay_host.or_else(|| surroundings.variable("CLUTCHCALL_RELAY_HOST"));
        let relay_host = relay_host.or(profile.relay_host);
        Ok(Self {
            base_url: parse_base_url(&base_url)?,
            api_key: parse_key(api_key)?,
            org_id,
            relay_host: relay_host.map(parse_relay_host).transpose()?,
            pool,
            drafts,
            timeout: limits.0,
            connect_timeout: limits.1,
            max_retries: limits.2,
            pace: Pace::default(),
            roots,
        })
    }
}

impl Surroundings<'_> {
    /// An empty variable counts as absent, as shells leave them.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.variable)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn setting(
        &self,
        name: &str,
        argument: Option<String>,
        file: Option<String>,
        last: Option<&String>,
    ) -> Result<String> {
        let variable = format!("CLUTCHCALL_{}", name.to_uppercase());
        if let Some(value) = argument {
            return if value.trim().is_empty() {
                Err(Error::config(format!("{name} is empty: pass a value, or leave it out and set {variable}")))
            } else {
                Ok(value)
            };
        }
        self.variable(&variable).or(file).or_else(|| last.cloned()).ok_or_else(|| {
            Error::config(format!(
                "{name} is missing: pass {name}=…, set {variable}, write it into a profile, or start `clutchcall dev` on this machine"
            ))
        })
    }

    fn drafts(&self, argument: &[String]) -> Result<Drafts> {
        if !argument.is_empty() {
            return Drafts::from_numbers(argument).map_err(|why| Error::value(format!("drafts: {why}")));
        }
        let variable = self.variable("CLUTCHCALL_DRAFTS").unwrap_or_default();
        let numbers: Vec<String> = variable.split_terminator(',').map(|number| number.trim().to_owned()).collect();
        Drafts::from_numbers(&numbers).map_err(|why| Error::config(format!("CLUTCHCALL_DRAFTS: {why}")))
    }

    fn roots(&self, argument: Option<String>) -> Result<Vec<CertificateDer<'static>>> {
        let (name, path) = match argument {
            Some(path) => ("ca_file", path),
            None => match self.variable("CLUTCHCALL_CA_FILE") {
                Some(path) => ("CLUTCHCALL_CA_FILE", path),
                None => return Ok(Vec::new()),
            },
        };
        let wrong = |what: &str| Error::config(format!("{name} names the file {path:?}: {what}"));
        let pem = files::read(Path::new(&path), files::SETTINGS).map_err(|error| wrong(&error.to_string()))?;
        let roots = CertificateDer::pem_slice_iter(&pem).collect::<std::result::Result<Vec<_>, _>>();
        match roots {
            Ok(roots) if !roots.is_empty() => Ok(roots),
            Ok(_) => Err(wrong("it holds no certificate in PEM")),
            Err(error) => Err(wrong(&error.to_string())),
        }
    }

    fn pool(&self, argument: Option<u32>) -> Result<usize> {
        let (name, text) = match argument {
            Some(value) => ("pool", value.to_string()),
            None => match self.variable("CLUTCHCALL_POOL") {
                Some(text) => ("CLUTCHCALL_POOL", text),
                None => return Ok(POOL as usize),
            },
        };
        let wrong = || format!("{name} is {text}: choose 1 (a connection for each bridge) to {POOL}");
        match text.parse::<u32>().ok().filter(|value| (1..=POOL).contains(value)) {
            Some(value) => Ok(value as usize),
            None if argument.is_some() => Err(Error::value(wrong())),
            None => Err(Error::config(wrong())),
        }
    }

    /// `CLUTCHCALL_CREDENTIALS` is a key, or the path of a file that holds one (bare, or JSON).
    fn credentials(&self) -> Result<Option<Credentials>> {
        let Some(text) = self.variable("CLUTCHCALL_CREDENTIALS") else { return Ok(None) };
        let path = Path::new(&text);
        if !(text.contains(['/', '\\']) || text.ends_with(".json") || path.is_file()) {
            return Ok(Some(Credentials { api_key: text, base_url: None, org_id: None }));
        }
        let wrong =
            |what: &str| Error::config(format!("CLUTCHCALL_CREDENTIALS names the file {}: {what}", path.display()));
        let content = read_small(path).map_err(|error| wrong(&error.to_string()))?;
        let content = content.trim();
        if content.starts_with('{') {
            let file = serde_json::from_str(content);
            return file.map(Some).map_err(|_| wrong("it is no JSON object with a text \"api_key\""));
        }
        match content.lines().count() {
            1 => Ok(Some(Credentials { api_key: content.to_owned(), base_url: None, org_id: None })),
            _ => Err(wrong("write the API key alone on one line, or a JSON object with \"api_key\"")),
        }
    }
}

/// `$CLUTCHCALL_STATE_DIR`, else the user's state folder, and in it `dev.json`.
pub fn dev_state_path(variable: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("CLUTCHCALL_STATE_DIR")
        .or_else(|| set("XDG_STATE_HOME").map(|folder| folder.join("clutchcall")))
        .or_else(|| set("HOME").map(|home| home.join(".local/state/clutchcall")))?;
    Some(folder.join("dev.json"))
}

/// The file's content, if whoever wrote it still runs. A file that can't be read is one that is not there.
fn running_dev(path: &Path) -> Option<DevState> {
    let state: DevState = serde_json::from_str(&read_small(path).ok()?).ok()?;
    let runs = !Path::new("/proc/self").exists() || Path::new(&format!("/proc/{}", state.pid)).exists();
    runs.then_some(state)
}

pub(super) fn read_small(path: &Path) -> std::io::Result<String> {
    files::text(path, MAX_FILE_BYTES)
}

fn parse_base_url(text: &str) -> Result<Url> {
    let text = text.trim().trim_end_matches('/');
    let wrong =
        |why: &str| Error::config(format!("base_url is {:?}: {why}, such as http://127.0.0.1:8080", shown(text)));
    let url = Url::parse(text).map_err(|_| wrong("write a URL with its scheme"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("write an http:// or https:// URL"));
    }
    let has_user = !url.username().is_empty() || url.password().is_some();
    if url.query().is_some() || url.fragment().is_some() || has_user || is_doubtful(&url) {
        return Err(wrong("write the origin alone, without user, query or fragment"));
    }
    Ok(url)
}

/// A header's value: visible ASCII.
fn parse_key(key: String) -> Result<String> {
    let key = key.trim();
    if key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(key.to_owned());
    }
    Err(Error::config("api_key holds a space or another character that no key has: copy it again"))
}

/// `host`, `host:port` or `[v6]:port`.
fn parse_relay_host(text: String) -> Result<String> {
    let url = Url::parse(&format!("https://{}", text.trim()));
    let sound = url.is_ok_and(|url| url.path() == "/" && url.query().is_none() && !text.contains('@'));
    let wrong =
        || Error::config(format!("relay_host is {:?}: write a host or host:port, without a scheme", shown(&text)));
    if sound && !text.contains("//") { Ok(text.trim().to_owned()) } else { Err(wrong()) }
}

fn seconds(name: &str, value: Option<f64>, default: f64) -> Result<Duration> {
    let value = value.unwrap_or(default);
    if value.is_finite() && value > 0.0 && value <= LONGEST_TIMEOUT_S {
        return Ok(Duration::from_secs_f64(value));
    }
    Err(Error::value(format!("{name} is {value}: give seconds, more than 0 and at most {LONGEST_TIMEOUT_S}")))
}

fn retries(value: Option<u32>) -> Result<u32> {
    let value = value.unwrap_or(MAX_RETRIES);
    if value <= MOST_RETRIES {
        return Ok(value);
    }
    Err(Error::value(format!("max_retries is {value}: choose 0 to {MOST_RETRIES}")))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::error::Kind;

    fn resolve(arguments: Arguments, variables: &[(&str, &str)], dev_state: Option<DevState>) -> Result<Options> {
        let variables: HashMap<_, _> = variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Options::resolve(arguments, &Surroundings { variable: &|name| variables.get(name).cloned(), dev_state })
    }

    fn dev() -> DevState {
        let text = |text: &str| text.to_owned();
        DevState { pid: 1, base_url: text("http://127.0.0.1:1"), api_key: text("dev_key"), org_id: text("org_dev") }
    }

    fn url(text: &str) -> Arguments {
        Arguments { base_url: Some(text.into()), ..Arguments::default() }
    }

    #[test]
    fn argument_then_environment_then_dev() {
        let variables = [
            ("CLUTCHCALL_BASE_URL", "https://env.example/"),
            ("CLUTCHCALL_API_KEY", "env_key"),
            ("CLUTCHCALL_ORG_ID", "org_env"),
            ("CLUTCHCALL_RELAY_HOST", "relay.example:4443"),
        ];
        let options = resolve(url("https://arg.example"), &variables, Some(dev())).unwrap();
        assert_eq!(options.base_url.as_str(), "https://arg.example/");
        assert_eq!((options.api_key.as_str(), options.org_id.as_str()), ("env_key", "org_env"));
        assert_eq!(options.relay_host.as_deref(), Some("relay.example:4443"));
        let options = resolve(Arguments::default(), &[("CLUTCHCALL_API_KEY", "")], Some(dev())).unwrap();
        assert_eq!((options.api_key.as_str(), options.org_id.as_str()), ("dev_key", "org_dev"));
        assert_eq!((options.timeout, options.max_retries), (Duration::from_secs(30), 2));
    }

    #[test]
    fn the_dev_key_stays_with_the_dev_engine() {
        let error = resolve(url("https://elsewhere.example"), &[], Some(dev())).unwrap_err();
        assert!(error.kind() == Kind::Config && error.message.contains("CLUTCHCALL_API_KEY"), "{error}");
    }

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        let error = resolve(Arguments::default(), &[], None).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.message.contains("CLUTCHCALL_BASE_URL") && error.message.contains("clutchcall dev"));
        let error = resolve(Arguments { base_url: Some(" ".into()), ..Arguments::default() }, &[], None).unwrap_err();
        assert!(error.message.starts_with("base_url is empty"));
    }

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        let error = |arguments| resolve(arguments, &[], None).unwrap_err().message.clone();
        for password in ["pa55", "pa/55", "pa?55", "pa#55", "pa@55", "1/55", "1?55", "1#55", "\\55"] {
            for told in [
                error(url(&format!("http://us3r:{password}@h:1/a?key=55"))),
                error(url(&format!("http://:{password}@h"))),
                error(url(&format!("us3r:{password}@h"))),
                error(Arguments {
                    relay_host: Some(format!("us3r:{password}@h")),
                    api_key: Some("k".into()),
                    org_id: Some("o".into()),
                    ..url("http://h")
                }),
            ] {
                assert!(!["us3r", "55"].iter().any(|secret| told.contains(secret)), "{password}: {told}");
            }
        }
    }

    #[test]
    fn credentials_are_a_key_or_a_file() {
        let with = |text: &str| {
            resolve(url("http://h"), &[("CLUTCHCALL_CREDENTIALS", text), ("CLUTCHCALL_ORG_ID", "o")], None)
        };
        assert_eq!(with("tqs_live_1").unwrap().api_key, "tqs_live_1");
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path.to_str().unwrap().to_owned()
        };
        assert_eq!(with(&file("bare", "key_2\n")).unwrap().api_key, "key_2");
        let json = file("a.json", r#"{"api_key":"key_3","org_id":"org_3","client_email":"x"}"#);
        let options = resolve(url("http://h"), &[("CLUTCHCALL_CREDENTIALS", &json)], None).unwrap();
        assert_eq!((options.api_key.as_str(), options.org_id.as_str()), ("key_3", "org_3"));
        for wrong in [file("b.json", "{\"private_key\":\"secret\"}"), file("c", "a\nb"), "/no/such/file".into()] {
            let error = with(&wrong).unwrap_err();
            assert!(error.message.contains("CLUTCHCALL_CREDENTIALS") && !error.message.contains("secret"), "{error}");
        }
    }

    #[test]
    fn only_the_file_of_a_living_process_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dev.json");
        let write = |pid| std::fs::write(&path, serde_json::to_string(&DevState { pid, ..dev() }).unwrap()).unwrap();
        write(std::process::id());
        assert!(running_dev(&path).is_some());
        // Above the kernel's highest pid.
        write(u32::MAX);
        assert!(running_dev(&path).is_none());
        std::fs::write(&path, "{").unwrap();
        assert!(running_dev(&path).is_none());
    }

    #[test]
    fn wrong_values_name_their_field() {
        let base = || Arguments { api_key: Some("k".into()), org_id: Some("o".into()), ..url("http://h") };
        for (arguments, field) in [
            (Arguments { base_url: Some("h:80".into()), ..base() }, "base_url"),
            (Arguments { base_url: Some("moqt://h".into()), ..base() }, "base_url"),
            (Arguments { base_url: Some("https://k@h".into()), ..base() }, "base_url"),
            (Arguments { api_key: Some("a b".into()), ..base() }, "api_key"),
            (Arguments { relay_host: Some("https://r".into()), ..base() }, "relay_host"),
            (Arguments { timeout_s: Some(0.0), ..base() }, "timeout"),
            (Arguments { connect_timeout_s: Some(f64::NAN), ..base() }, "connect_timeout"),
            (Arguments { max_retries: Some(11), ..base() }, "max_retries"),
            (Arguments { pool: Some(0), ..base() }, "pool"),
            (Arguments { pool: Some(33), ..base() }, "pool"),
        ] {
            let error = resolve(arguments, &[], None).unwrap_err();
            assert!(error.message.starts_with(field), "{error}");
        }
        for (text, wanted) in [("1", Some(1)), ("", Some(32)), ("0", None), ("33", None), ("x", None)] {
            match resolve(base(), &[("CLUTCHCALL_POOL", text)], None) {
                Ok(options) => assert_eq!(Some(options.pool), wanted),
                Err(error) => assert!(wanted.is_none() && error.message.starts_with("CLUTCHCALL_POOL"), "{error}"),
            }
        }
        assert!(!format!("{:?}", resolve(base(), &[], None).unwrap()).contains("\"k\""));
    }
}
