//! The file of API keys that come and go while an engine runs. `clutchcall keys` writes it, an engine reads it.
//!
//! TOML with one table `[[keys]]` a key: `org`, `scopes`, `hash`, and for people `id`, `name`, `created`. It holds salted hashes only: a
//! key's text is shown once, when it is made. The file is for the owner alone (0600), and replaced as a whole, under a lock, so
//! that nobody reads half of it and two writers lose nothing; whoever writes it, it stays the property of whom it belongs to. It is bounded by [`MOST_KEYS`] and [`MOST_BYTES`].
//!
//! Keys of the engine's own file (`[[keys]]` there) are none of this room's business: they count until the engine ends.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use super::key::{ApiKey, check_scope, mint};
use super::parse::check_id;
use super::table::{Table, parsed};
use crate::engine::outside::make_folder;
use crate::engine::private;
use crate::files;

/// What the file is called in a state folder.
pub const NAME: &str = "keys.toml";
/// All keys are compared with that of a request, a microsecond each.
pub const MOST_KEYS: usize = 1000;
const MOST_BYTES: u64 = 1 << 20;
const MAX_NAME: usize = 64;

const HEAD: &str =
    "# API keys as salted hashes. `clutchcall keys` writes this file; a running engine reads it when it changes.\n";

/// One key, as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: ApiKey,
    pub name: Option<String>,
    /// ISO 8601, UTC.
    pub created: Option<String>,
}

/// A key to make.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub org: String,
    /// None at all: `voice:*`.
    pub scopes: Vec<String>,
    pub name: Option<String>,
    /// ISO 8601, UTC.
    pub created: String,
}

/// `None`: there is no such file. The error names it, the place in it, and the remedy.
pub fn read(path: &Path) -> Result<Option<Vec<Entry>>, String> {
    let shown = path.display();
    let text = match files::text(path, MOST_BYTES) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{shown} can't be read: {error}")),
        Ok(text) => text,
    };
    parse(&text).map(Some).map_err(|error| format!("{shown}: {error}"))
}

/// Adds a key; returns it and its text, which nobody can show again.
pub fn create(path: &Path, wanted: Wanted) -> Result<(Entry, String), String> {
    check_id("org", &wanted.org)?;
    wanted.scopes.iter().try_for_each(|scope| check_scope(scope))?;
    if let Some(name) = &wanted.name
        && (name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control))
    {
        return Err(format!("name is {name:?}: 1 to {MAX_NAME} bytes without control characters"));
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        make_folder(folder)?;
    }
    let _lock = lock(path)?;
    let mut entries = read(path)?.unwrap_or_default();
    if entries.len() >= MOST_KEYS {
        return Err(format!("{} holds {MOST_KEYS} keys already: revoke some", path.display()));
    }
    let mut scopes: Vec<&str> = wanted.scopes.iter().map(String::as_str).collect();
    if scopes.is_empty() {
        scopes.push("voice:*");
    }
    let (key, text) = mint(&wanted.org, &scopes);
    entries.push(Entry { key, name: wanted.name, created: Some(wanted.created) });
    write(path, &entries)?;
    Ok((entries.pop().expect("it was pushed above"), text))
}

/// Takes a key out; an engine that reads the file refuses it from then on.
pub fn revoke(path: &Path, id: &str) -> Result<Entry, String> {
    let missing = || {
        format!(
            "{id:?} is no key of {}: `clutchcall keys list` shows those it has; one of an engine's own settings ([[keys]]) counts until that engine ends",
            path.display()
        )
    };
    if !path.exists() {
        return Err(missing());
    }
    let _lock = lock(path)?;
    let mut entries = read(path)?.unwrap_or_default();
    let at = entries.iter().position(|entry| entry.key.id() == id).ok_or_else(missing)?;
    let revoked = entries.remove(at);
    write(path, &entries)?;
    Ok(revoked)
}

/// Held until it is dropped.
fn lock(path: &Path) -> Result<File, String> {
    files::check(path, MOST_BYTES).map_err(|error| format!("{} can't be read: {error}", path.display()))?;
    let beside = path.with_extension("lock");
    let file = private::open_beside(&beside);
    let locked = file.and_then(|file| file.lock().map(|()| file));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let (Ok(file), Ok(keys)) = (&locked, std::fs::metadata(path).or_else(|_| std::fs::metadata(folder))) {
        // It is locked either way; where root made it, the owner of the keys could not lock it the next time.
        let _ = private::keep_owner(file, &keys);
    }
    locked.map_err(|error| format!("{} can't be locked ({error}): is the folder writable?", beside.display()))
}

fn write(path: &Path, entries: &[Entry]) -> Result<(), String> {
    let mut text = HEAD.to_owned();
    for Entry { key, name, created } in entries {
        text += &format!("\n[[keys]]\nid = {}\norg = {}\n", quoted(&key.id()), quoted(&key.org));
        let scopes: Vec<String> = key.scopes.iter().map(|scope| quoted(scope)).collect();
        text += &format!("scopes = [{}]\nhash = {}\n", scopes.join(", "), quoted(&key.hash()));
        for (field, value) in [("name", name), ("created", created)] {
            if let Some(value) = value {
                text += &format!("{field} = {}\n", quoted(value));
            }
        }
    }
    private::write(path, text.as_bytes())
}

/// JSON's way of quoting is one of TOML's (basic strings) for texts without control characters.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let mut root = Table::new(String::new(), parsed(text)?);
    let entries: Vec<Entry> = root.rows("keys")?.into_iter().map(entry).collect::<Result<_, _>>()?;
    root.finish()?;
    if entries.len() > MOST_KEYS {
        return Err(format!("{} keys: at most {MOST_KEYS}", entries.len()));
    }
    Ok(entries)
}

fn entry(mut table: Table) -> Result<Entry, String> {
    let (id, id_at) = (table.text("id")?, table.at("id"));
    let org = table.text("org")?.ok_or_else(|| format!("{} is missing: whose key is it?", table.at("org")))?;
    let hash = table.secret("hash")?.ok_or_else(|| format!("{} is missing", table.at("hash")))?;
    let scopes = table.texts("scopes")?;
    if scopes.is_empty() {
        return Err(format!("{} is missing: write [\"voice:*\"] for all", table.at("scopes")));
    }
    let key = ApiKey::from_hash(&org, scopes, &hash)
        .ok_or_else(|| format!("{} is no hash of a key: `clutchcall keys create` writes one", table.at("hash")))?;
    let entry = Entry { key, name: table.text("name")?, created: table.text("created")? };
    table.finish()?;
    match id {
        Some(id) if id != entry.key.id() => {
            Err(format!("{id_at} is {id:?}, but this hash is that of {}", entry.key.id()))
        }
        _ => Ok(entry),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn wanted(org: &str, scopes: &[&str]) -> Wanted {
        Wanted {
            org: org.to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            name: Some("CI \"nightly\"".to_owned()),
            created: "2026-01-02T03:04:05.000Z".to_owned(),
        }
    }

    #[test]
    fn keys_are_made_listed_and_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join(NAME);
        assert_eq!(read(&path), Ok(None));
        assert!(revoke(&path, "key_1").unwrap_err().contains("keys list"));
        let (first, text) = create(&path, wanted("org_a", &[])).unwrap();
        let (second, _) = create(&path, wanted("org_b", &["voice:calls.*", "voice:agents.list"])).unwrap();
        assert!(first.key.is(&text) && first.key.scopes == ["voice:*"]);
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(!written.contains(&text) && written.contains(&first.key.hash()), "{written}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&path).unwrap().unwrap(), [first.clone(), second.clone()]);
        assert_eq!(revoke(&path, &first.key.id()), Ok(first.clone()));
        assert_eq!(read(&path).unwrap().unwrap(), [second]);
        assert!(revoke(&path, &first.key.id()).unwrap_err().contains("no key of"));
    }

    #[test]
    fn what_opens_nothing_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let refused = |wanted| create(&path, wanted).unwrap_err();
        assert!(refused(wanted("org_a", &["voice:calls.gte"])).contains("did you mean voice:calls.get?"));
        assert!(refused(wanted("org_a", &["admin"])).contains("voice:*"));
        assert!(refused(wanted("an org", &[])).contains("org"));
        let named = Wanted { name: Some("a\nb".to_owned()), ..wanted("org_a", &[]) };
        assert!(refused(named).contains("control"));
        assert_eq!(read(&path), Ok(None));
    }

    #[test]
    fn a_broken_file_is_named_with_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let hash = mint("o", &["voice:*"]).0.hash();
        let row = |more: &str| format!("[[keys]]\norg = \"o\"\nscopes = [\"voice:*\"]\nhash = \"{hash}\"\n{more}");
        for (text, part) in [
            ("\n[[keys]".to_owned(), "line 2"),
            (row("id = \"key_other\""), "keys[0].id"),
            (row("expires = 1"), "keys[0].expires is not a key"),
            (row("").replace(&format!("{hash}\""), &hash), "line 4"),
            (format!("{}[[keys]]\nhash = \"{hash}\"", row("")), "keys[1].org"),
            ("[[keys]]\norg = \"o\"\nscopes = [\"voice:*\"]\nhash = \"abc\"".to_owned(), "keys[0].hash"),
            (format!("[[keys]]\norg = \"o\"\nhash = \"{hash}\""), "keys[0].scopes"),
            ("# ".to_owned() + &"x".repeat(1 << 20), "larger"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err();
            assert!(error.contains("keys.toml") && error.contains(part), "{error}");
            assert!(!error.contains(&hash), "a hash stands in no message: {error}");
        }
        std::fs::write(&path, row("")).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().len(), 1, "id, name and created are for people");
    }

    /// `sudo clutchcall keys revoke` beside an engine with a user of its own.
    #[test]
    fn whoever_writes_the_file_stays_its_owners() {
        use std::os::unix::fs::{MetadataExt as _, chown};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        // The first key is for the owner of the folder, whoever makes it.
        let _ = chown(folder.path(), Some(12_345), Some(12_346));
        let owner = |path: &Path| std::fs::metadata(path).map(|seen| (seen.uid(), seen.gid())).unwrap();
        let (first, _) = create(&path, wanted("org_a", &[])).unwrap();
        let made = owner(folder.path());
        assert_eq!((owner(&path), owner(&path.with_extension("lock"))), (made, made));
        // Only root can give it away; anybody else owns all of it before and after.
        let _ = chown(&path, Some(12_347), Some(12_348));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let before = owner(&path);
        revoke(&path, &first.key.id()).unwrap();
        assert_eq!((owner(&path), owner(&path.with_extension("lock"))), (before, before));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn writers_at_the_same_time_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..4).for_each(|_| drop(create(&path, wanted("org_a", &[])).unwrap())));
            }
        });
        assert_eq!(read(&path).unwrap().unwrap().len(), 32);
    }
}
