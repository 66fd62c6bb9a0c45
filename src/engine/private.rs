//! Files of the engine's own that are replaced as a whole: keys, and what else nobody else may write.
//!
//! Whoever replaces one is not always who reads it: `sudo clutchcall keys revoke` runs beside an engine that has a user of its own. So a
//! file that is there keeps its owner, group and mode, a link goes on leading where it leads, and a new file is for who makes it alone
//! (0600). What was replaced is on the disk when the call returns, its name too. Starts nothing, knows no format, and removes nothing
//! but what it left unfinished.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;

/// Whole or not at all, whatever happens in between.
pub(super) fn write(path: &Path, bytes: &[u8]) -> std::result::Result<(), String> {
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let unfinished = target.with_extension("new");
    replace(&target, &unfinished, bytes).map_err(|e| {
        // What is there of it is of no use to anybody; that it can't be removed either changes nothing.
        let _ = std::fs::remove_file(&unfinished);
        format!("{} can't be written ({e}): is the state folder writable?", path.display())
    })
}

fn replace(target: &Path, unfinished: &Path, bytes: &[u8]) -> Result<()> {
    let before = match std::fs::metadata(target) {
        Ok(before) => Some(before),
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(unfinished)?;
    if let Some(before) = &before {
        keep_owner(&file, before).map_err(|e| {
            let (user, group) = (before.uid(), before.gid());
            Error::new(e.kind(), format!("it belongs to user {user} and group {group}, who would lose it: {e}"))
        })?;
        file.set_permissions(before.permissions())?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(unfinished, target)?;
    // The new name is the folder's: without this a power cut brings the old file back, and a revoked key with it.
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Gives a file to the owner and the group of another one. Only root may give files away; to whom it belongs already needs nobody.
pub(super) fn keep_owner(file: &File, other: &Metadata) -> Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) == (other.uid(), other.gid()) {
        return Ok(());
    }
    fchown(file, Some(other.uid()), Some(other.gid()))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    /// Of a file, as far as it decides who may read it.
    fn owner(path: &Path) -> (u32, u32, u32) {
        let seen = std::fs::metadata(path).unwrap();
        (seen.uid(), seen.gid(), seen.mode() & 0o7777)
    }

    #[test]
    fn a_file_that_is_replaced_keeps_its_owner_and_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        write(&path, b"first").unwrap();
        assert_eq!(owner(&path).2, 0o600, "a new one is private");
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        // Only root can give it to the user of an engine; anybody else owns it before and after.
        let given = chown(&path, Some(12_345), Some(12_346)).is_ok();
        let before = owner(&path);
        assert_eq!(given, before.0 == 12_345);
        let inode = std::fs::metadata(&path).unwrap().ino();
        write(&path, b"second").unwrap();
        assert_eq!(owner(&path), before);
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_ne!(std::fs::metadata(&path).unwrap().ino(), inode, "replaced as a whole");
    }

    #[test]
    fn a_link_goes_on_leading_where_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let (elsewhere, link) = (folder.path().join("elsewhere"), folder.path().join("keys.toml"));
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::write(elsewhere.join("real.toml"), "first").unwrap();
        symlink("elsewhere/real.toml", &link).unwrap();
        write(&link, b"second").unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read(elsewhere.join("real.toml")).unwrap(), b"second");
        let names = |path: &Path| std::fs::read_dir(path).unwrap().count();
        assert_eq!((names(folder.path()), names(&elsewhere)), (2, 1), "nothing unfinished is left");
    }
}
