//! Files that a user names: read whole, and never more of them than such a file has.
//!
//! A name may be a mistake, and lead to a device without an end. Whoever reads says how much is sensible; more is an error, not
//! memory. Owned by nobody; knows no format, keeps nothing open, and starts nothing.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result};
use std::path::Path;

/// Settings, keys, certificates, tokens: no honest one is larger.
pub const SETTINGS: u64 = 4 << 20;

/// The content, if it is at most so many bytes.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("it is larger than {} KiB", most / 1024)));
    }
    Ok(bytes)
}

/// The same as text.
pub fn text(path: &Path, most: u64) -> Result<String> {
    String::from_utf8(read(path, most)?).map_err(|_| Error::new(ErrorKind::InvalidData, "it is no UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_too_large() {
        let error = read(Path::new("/dev/zero"), 5000).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::FileTooLarge, "it is larger than 4 KiB"));
    }

    #[test]
    fn up_to_the_limit_all_of_it_comes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        std::fs::write(&path, "ä".repeat(50)).unwrap();
        assert_eq!(text(&path, 100).unwrap(), "ä".repeat(50));
        assert_eq!(text(&path, 99).unwrap_err().kind(), ErrorKind::FileTooLarge);
        std::fs::write(&path, [0xff]).unwrap();
        assert_eq!(text(&path, 99).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(text(folder.path(), 99).unwrap_err().kind(), ErrorKind::IsADirectory);
    }
}
