//! Files that are looked at now and then, and read when they look different: what was read before goes on where they can't be.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How a file looked from outside: inode, length, times of its content and of itself. What was written anew looks different, also
/// where a copy brings the old time of its content along.
type Stamp = Option<(u64, u64, [i64; 2], [i64; 2])>;

/// Files that are read together.
pub(super) struct Watched<const N: usize> {
    pub(super) paths: [PathBuf; N],
    /// How they looked when they were read well.
    seen: [Stamp; N],
    /// Why the last attempt came to nothing.
    trouble: Option<String>,
}

/// An attempt to read that came to nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// Why, where that was not said before.
    pub(super) news: Option<String>,
}

impl<const N: usize> Watched<N> {
    /// Files that are read right behind this.
    pub(super) fn new(paths: [PathBuf; N]) -> Self {
        Self { seen: paths.each_ref().map(|path| stamp(path)), paths, trouble: None }
    }

    /// The first of them was there when they were read.
    pub(super) fn is_there(&self) -> bool {
        self.seen[0].is_some()
    }

    /// Reads when they look different, when the last attempt failed, or when somebody asked for it; `None`: there was no need. What
    /// is written meanwhile is read at the next look.
    pub(super) fn look<T>(
        &mut self,
        told: bool,
        read: impl FnOnce() -> Result<T, String>,
    ) -> Option<Result<T, Failed>> {
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
