//! Profiles: the settings of several control planes in one file of the user's.
//!
//! The file is `$CLUTCHCALL_CONFIG`, else `clutchcall/config.toml` in the user's folder of settings. A profile is a table in it, such as
//! `[profiles.staging]`; whoever names none has the one called `default`, where there is one. The folder that a program happens to
//! run in is not searched: what lies there must not choose where a key goes (decision 0132).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use super::options::{Surroundings, read_small};
use crate::error::{Error, Result};

/// The profile of whoever names none.
const DEFAULT: &str = "default";

/// What a profile may say: the same as the arguments, by the same names.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    #[serde(default)]
    pub(super) base_url: Option<String>,
    #[serde(default)]
    pub(super) api_key: Option<String>,
    #[serde(default)]
    pub(super) org_id: Option<String>,
    #[serde(default)]
    pub(super) relay_host: Option<String>,
}

/// Other tables are somebody else's.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    profiles: BTreeMap<String, Profile>,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("base_url", &self.base_url)
            .field("org_id", &self.org_id)
            .finish_non_exhaustive()
    }
}

impl Surroundings<'_> {
    /// The profile that is named, by the argument or by `CLUTCHCALL_PROFILE`, else the default one; empty where there is none.
    pub(super) fn profile(&self, argument: Option<&str>) -> Result<Profile> {
        let variable = self.variable("CLUTCHCALL_PROFILE");
        let named = argument.or(variable.as_deref());
        let path = config_path(self);
        let mut file = match &path {
            Some(path) if path.exists() => read(path)?,
            Some(path) if self.variable("CLUTCHCALL_CONFIG").is_some() => {
                return Err(Error::config(format!(
                    "CLUTCHCALL_CONFIG names the file {}, which is not there",
                    path.display()
                )));
            }
            _ => File { profiles: BTreeMap::new() },
        };
        if let Some(profile) = file.profiles.remove(named.unwrap_or(DEFAULT)) {
            return Ok(profile);
        }
        let Some(named) = named else { return Ok(Profile::default()) };
        let place = path.map_or_else(|| "no file of settings".to_owned(), |path| path.display().to_string());
        let names = file.profiles.into_keys().collect::<Vec<_>>().join(", ");
        let names = if names.is_empty() { "it has none".to_owned() } else { format!("it has {names}") };
        Err(Error::config(format!(
            "there is no profile {named:?} in {place} ({names}): write [profiles.{named}] there"
        )))
    }
}

/// `$CLUTCHCALL_CONFIG`, else the user's folder of settings, and in it `clutchcall/config.toml`.
fn config_path(surroundings: &Surroundings<'_>) -> Option<PathBuf> {
    let set = |name| surroundings.variable(name).map(PathBuf::from);
    set("CLUTCHCALL_CONFIG").or_else(|| {
        let folder = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?;
        Some(folder.join("clutchcall/config.toml"))
    })
}

fn read(path: &std::path::Path) -> Result<File> {
    let wrong = |why: String| {
        let file = path.display();
        Error::config(format!("the settings in {file} can't be read: {why} (CLUTCHCALL_CONFIG names another file)"))
    };
    let text = read_small(path).map_err(|error| wrong(error.to_string()))?;
    // The error's own text quotes the line, and that line may hold a key.
    toml::from_str(&text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        wrong(format!("line {line}: {}", error.message()))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use super::*;
    use crate::client::options::{Arguments, DevState, Options};

    const FILE: &str = r#"
[profiles.default]
base_url = "https://default.example"
api_key = "default_key"
org_id = "org_default"

[profiles.staging]
base_url = "https://staging.example/"
api_key = "staging_key"
org_id = "org_staging"
relay_host = "relay.example:4443"

[colours]
of = "somebody else"
"#;

    fn resolve(arguments: Arguments, variables: &[(&str, &str)], dev: Option<DevState>) -> Result<Options> {
        let variables: HashMap<_, _> = variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let variable = |name: &str| variables.get(name).cloned();
        Options::resolve(arguments, &Surroundings { variable: &variable, dev_state: dev })
    }

    fn written(folder: &Path, text: &str) -> String {
        let path = folder.join("config.toml");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn dev() -> DevState {
        let text = |text: &str| text.to_owned();
        DevState { pid: 1, base_url: text("http://127.0.0.1:1"), api_key: text("dev_key"), org_id: text("org_dev") }
    }

    #[test]
    fn argument_then_environment_then_profile_then_dev() {
        let folder = tempfile::tempdir().unwrap();
        let file = written(folder.path(), FILE);
        let config = ("CLUTCHCALL_CONFIG", file.as_str());
        let named = |profile: &str| Arguments { profile: Some(profile.into()), ..Arguments::default() };

        let options = resolve(Arguments::default(), &[config], Some(dev())).unwrap();
        assert_eq!((options.api_key.as_str(), options.org_id.as_str()), ("default_key", "org_default"));
        let options = resolve(named("staging"), &[config, ("CLUTCHCALL_ORG_ID", "org_env")], Some(dev())).unwrap();
        assert_eq!(options.base_url.as_str(), "https://staging.example/");
        assert_eq!((options.api_key.as_str(), options.org_id.as_str()), ("staging_key", "org_env"));
        assert_eq!(options.relay_host.as_deref(), Some("relay.example:4443"));
        let variables = [config, ("CLUTCHCALL_PROFILE", "staging")];
        assert_eq!(resolve(Arguments::default(), &variables, None).unwrap().api_key, "staging_key");
        assert_eq!(resolve(named("default"), &variables, None).unwrap().api_key, "default_key");
        let argument = Arguments { api_key: Some("arg_key".into()), ..named("staging") };
        assert_eq!(resolve(argument, &[config], None).unwrap().api_key, "arg_key");
        let none = written(folder.path(), "[colours]\n");
        let options = resolve(Arguments::default(), &[("CLUTCHCALL_CONFIG", &none)], Some(dev())).unwrap();
        assert_eq!(options.api_key, "dev_key");
    }

    #[test]
    fn it_lies_in_the_users_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("clutchcall")).unwrap();
        written(&folder.path().join("clutchcall"), FILE);
        let home = folder.path().to_str().unwrap();
        let options = resolve(Arguments::default(), &[("XDG_CONFIG_HOME", home)], None).unwrap();
        assert_eq!(options.api_key, "default_key");
    }

    #[test]
    fn the_key_of_a_profile_stays_with_its_engine() {
        let folder = tempfile::tempdir().unwrap();
        let file = written(folder.path(), FILE);
        let elsewhere = Arguments { base_url: Some("https://elsewhere.example".into()), ..Arguments::default() };
        let error = resolve(elsewhere, &[("CLUTCHCALL_CONFIG", &file)], None).unwrap_err();
        assert!(error.message.contains("api_key is missing"), "{error}");
        let same = Arguments { base_url: Some("https://default.example/".into()), ..Arguments::default() };
        assert_eq!(resolve(same, &[("CLUTCHCALL_CONFIG", &file)], None).unwrap().api_key, "default_key");
    }

    #[test]
    fn what_is_wrong_is_said_without_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let error = |text: &str, profile: Option<&str>| {
            let file = written(folder.path(), text);
            let arguments = Arguments { profile: profile.map(str::to_owned), ..Arguments::default() };
            resolve(arguments, &[("CLUTCHCALL_CONFIG", &file)], None).unwrap_err().message.clone()
        };
        let missing = error(FILE, Some("production"));
        assert!(missing.contains("\"production\"") && missing.contains("default, staging"), "{missing}");
        for text in ["[profiles.default]\napi_key = \"sec\nret\"", "[profiles.default]\napi_kye = \"secret\"", "secret"]
        {
            let told = error(text, None);
            assert!(told.contains("config.toml") && told.contains("line") && !told.contains("secret"), "{told}");
        }
        let gone = resolve(Arguments::default(), &[("CLUTCHCALL_CONFIG", "/no/such/file")], None).unwrap_err();
        assert!(gone.message.contains("CLUTCHCALL_CONFIG"), "{gone}");
        assert!(!format!("{:?}", toml::from_str::<File>(FILE).unwrap().profiles).contains("_key"));
    }
}
