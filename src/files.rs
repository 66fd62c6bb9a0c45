//! Files that a user names: read whole, and never more of them than such a file has.
//!
//! A name may be a mistake, and lead to a device without an end, a folder, or a FIFO into which nobody writes. Only regular files are
//! read (links to them too), so nothing here waits for anybody. Whoever reads says how much is sensible; more is an error, not memory.
//! Owned by nobody; knows no format, keeps nothing open, and starts nothing.

use std::fs::{File, FileType, OpenOptions};
use std::io::{Error, ErrorKind, Read as _, Result};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Settings, keys, certificates, tokens: no honest one is larger.
pub const SETTINGS: u64 = 4 << 20;

/// The content, if it is at most so many bytes.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_large(most)) } else { Ok(bytes) }
}

/// The same as text.
pub fn text(path: &Path, most: u64) -> Result<String> {
    String::from_utf8(read(path, most)?).map_err(|_| Error::new(ErrorKind::InvalidData, "it is no UTF-8 text"))
}

/// For reading, and a regular file. What is at the path must be one when it is opened, not when it is looked at.
fn open(path: &Path) -> Result<File> {
    // A FIFO is opened at once, and not when somebody writes; to a regular file the flag means nothing.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    match is_irregular(file.metadata()?.file_type()) {
        None => Ok(file),
        Some(error) => Err(error),
    }
}

/// For files that somebody else's code reads, as it likes: the same judgement beforehand. What is not there is no mistake here.
pub fn check(path: &Path, most: u64) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(found) => match is_irregular(found.file_type()) {
            Some(error) => Err(error),
            None if found.len() > most => Err(too_large(most)),
            None => Ok(()),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn too_large(most: u64) -> Error {
    Error::new(ErrorKind::FileTooLarge, format!("it is larger than {} KiB", most / 1024))
}

fn is_irregular(kind: FileType) -> Option<Error> {
    let what = match kind {
        kind if kind.is_file() => return None,
        kind if kind.is_dir() => return Some(Error::new(ErrorKind::IsADirectory, "it is a folder: name a file in it")),
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    };
    Some(Error::new(ErrorKind::InvalidInput, format!("it is {what}: name a regular file")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_named_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (fifo, socket, link) =
            (folder.path().join("fifo"), folder.path().join("socket"), folder.path().join("link"));
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let _listens = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::symlink(&fifo, &link).unwrap();
        for (path, told) in [
            (fifo.as_path(), "it is a FIFO: name a regular file"),
            (link.as_path(), "it is a FIFO: name a regular file"),
            (Path::new("/dev/zero"), "it is a device: name a regular file"),
            (Path::new("/dev/full"), "it is a device: name a regular file"),
            (folder.path(), "it is a folder: name a file in it"),
        ] {
            assert_eq!(read(path, 5000).unwrap_err().to_string(), told, "{path:?}");
            assert_eq!(check(path, 5000).unwrap_err().to_string(), told, "{path:?}");
        }
        // The system opens none.
        assert!(read(&socket, 5000).is_err());
        assert_eq!(check(&socket, 5000).unwrap_err().to_string(), "it is a socket: name a regular file");
        assert!(check(&folder.path().join("nothing"), 0).is_ok());
    }

    #[test]
    fn up_to_the_limit_all_of_it_comes() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("text"), folder.path().join("link"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        std::fs::write(&path, "ä".repeat(50)).unwrap();
        assert_eq!(text(&path, 100).unwrap(), "ä".repeat(50));
        assert_eq!(text(&link, 100).unwrap(), "ä".repeat(50));
        assert!(check(&link, 100).is_ok());
        assert_eq!(check(&link, 99).unwrap_err().kind(), ErrorKind::FileTooLarge);
        let error = text(&path, 99).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::FileTooLarge, "it is larger than 0 KiB"));
        std::fs::write(&path, [0xff]).unwrap();
        assert_eq!(text(&path, 99).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
