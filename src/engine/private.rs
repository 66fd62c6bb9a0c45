//! Files of the engine's own that are replaced as a whole: keys, and what else nobody else may write.
//!
//! Whoever replaces one is not always who reads it: `sudo clutchcall keys revoke` runs beside an engine that has a user of its own. So a
//! file that is there keeps its owner, group and mode, a link goes on leading where it leads, and a new file is for the owner of its
//! folder alone (0600), as is a folder that has to be made. What was replaced is on the disk when the call returns, its name too.
//! Starts nothing, knows no format, and removes nothing but what was left unfinished.
//!
//! Who owns a folder may put links into it, and root must not follow them into a file of somebody else's: what is opened here for
//! writing is made by the same call, or is no link.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
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
    match std::fs::remove_file(unfinished) {
        // What a crash left, or somebody put there.
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(unfinished)?;
    let folder = folder_of(target);
    if let Some(before) = &before {
        keep_owner(&file, before).map_err(|e| {
            let (user, group) = (before.uid(), before.gid());
            Error::new(e.kind(), format!("it belongs to user {user} and group {group}, who would lose it: {e}"))
        })?;
        file.set_permissions(before.permissions())?;
    } else {
        adopt(&file, &std::fs::metadata(folder)?)?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(unfinished, target)?;
    // The new name is the folder's: without this a power cut brings the old file back, and a revoked key with it.
    File::open(folder)?.sync_all()
}

/// Makes it and what is missing above it, for the owner only: of the folder that is there already.
pub(super) fn make_folder(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = folder_of(path);
    make_folder(above)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(_) if path.is_dir() => return Ok(()),
        Err(e) => return Err(e),
    }
    let made = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)?;
    adopt(&made, &std::fs::metadata(above)?)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What root makes in a folder of somebody else's is for him; anybody else keeps what he made.
fn adopt(file: &File, folder: &Metadata) -> Result<()> {
    let own = file.metadata()?;
    if own.uid() != 0 { Ok(()) } else { keep_owner(file, folder) }
}

/// Opens a file beside others for a lock, and makes it if there is none.
pub(super) fn open_beside(path: &Path) -> Result<File> {
    // Neither a link nor a FIFO; to a regular file the flags mean nothing.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).custom_flags(flags).open(path)?;
    match file.metadata()?.nlink() {
        0 | 1 => Ok(file),
        _ => Err(Error::new(ErrorKind::InvalidInput, "it is another file's name too: remove it")),
    }
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

    /// `sudo clutchcall keys create`, before the engine has ever started.
    #[test]
    fn what_is_new_belongs_to_the_owner_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let is_root = chown(folder.path(), Some(12_345), Some(12_346)).is_ok();
        let own = |path: &Path| (owner(path).0, owner(path).1);
        let (state, path) = (folder.path().join("a/state"), folder.path().join("a/state/keys.toml"));
        make_folder(&state).unwrap();
        make_folder(&state).unwrap();
        write(&path, b"first").unwrap();
        for made in [&folder.path().join("a"), &state, &path] {
            assert_eq!(own(made), own(folder.path()), "{made:?}");
        }
        assert_eq!((owner(&state).2, owner(&path).2), (0o700, 0o600));
        assert_eq!(is_root, own(&path) == (12_345, 12_346));
        // A folder of root's own stays so.
        let other = tempfile::tempdir().unwrap();
        write(&other.path().join("keys.toml"), b"first").unwrap();
        assert_eq!(own(&other.path().join("keys.toml")), own(other.path()));
    }

    /// The user of an engine must not make root write where he may not.
    #[test]
    fn no_link_in_the_folder_is_followed_into_a_file_of_somebody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, path) = (folder.path().join("victim"), folder.path().join("keys.toml"));
        std::fs::write(&victim, "untouched").unwrap();
        symlink(&victim, folder.path().join("keys.new")).unwrap();
        symlink(&victim, folder.path().join("keys.lock")).unwrap();
        write(&path, b"first").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert!(open_beside(&folder.path().join("keys.lock")).is_err());
        assert_eq!(std::fs::read(&victim).unwrap(), b"untouched");
        std::fs::hard_link(&victim, folder.path().join("hard.lock")).unwrap();
        assert!(open_beside(&folder.path().join("hard.lock")).unwrap_err().to_string().contains("remove it"));
        let fifo = folder.path().join("fifo.lock");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert!(open_beside(&fifo).is_err(), "nobody reads it");
    }
}
