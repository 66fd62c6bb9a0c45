//! One mapping of this process: which of its huge pages are there, and how one more gets there (proc(5), madvise(2)).

#![allow(unsafe_code)] // madvise(2) has no safe face; the one advice given here changes no byte.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::mm::{Advice, madvise};

/// A huge page.
pub(super) const PAGE: usize = 2 << 20;
/// Stretches of this size hold memory of one kind, as allocators have it; each is filled from its beginning.
const STRETCH: usize = 32 << 20;
const SMALL_PAGE: u64 = 4 << 10;
/// Bit of an entry of `/proc/self/pagemap`: the page is in memory.
const PRESENT: u64 = 1 << 63;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mapping(Range<usize>);

impl Mapping {
    /// The one that a fresh allocation lies in, if it asks for huge pages.
    pub(super) fn of_the_heap() -> Option<Self> {
        let sample = Box::new([0u8; 64]);
        let address = sample.as_ptr().addr();
        Self::holding(address, &fs::read_to_string("/proc/self/smaps").ok()?)
    }

    fn holding(address: usize, smaps: &str) -> Option<Self> {
        let mut lines = smaps.lines();
        let range = lines.find_map(|line| range(line).filter(|range| range.contains(&address)))?;
        let flags = lines.find_map(|line| line.strip_prefix("VmFlags:"))?;
        let (first, end) = (range.start.next_multiple_of(PAGE), range.end / PAGE * PAGE);
        (flags.split_whitespace().any(|flag| flag == "hg") && first < end).then_some(Self(first..end))
    }

    /// Prepares the first page that is missing in one of the stretches in use; `turn` says in which. `false`: nothing is missing.
    pub(super) fn prepare_one(&self, turn: usize) -> io::Result<bool> {
        let map = File::open("/proc/self/pagemap")?;
        let mut missing = Vec::new();
        for stretch in self.0.clone().step_by(STRETCH) {
            let pages = (stretch..self.0.end.min(stretch + STRETCH)).step_by(PAGE);
            let present: Vec<(usize, bool)> =
                pages.map(|page| Ok((page, is_present(&map, page)?))).collect::<io::Result<_>>()?;
            if present.iter().any(|(_, present)| *present) {
                missing.extend(present.iter().find(|(_, present)| !present).map(|(page, _)| *page));
            }
        }
        let Some(page) = missing.get(turn % missing.len().max(1)) else { return Ok(false) };
        populate(*page)?;
        Ok(true)
    }
}

/// `start-end …`, the first line of a mapping.
fn range(line: &str) -> Option<Range<usize>> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

fn is_present(map: &File, address: usize) -> io::Result<bool> {
    let mut entry = [0; 8];
    map.read_exact_at(&mut entry, address as u64 / SMALL_PAGE * 8)?;
    Ok(u64::from_ne_bytes(entry) & PRESENT != 0)
}

fn populate(page: usize) -> io::Result<()> {
    // SAFETY: the advice fills in pages that are missing, as a write would, and changes none that are there; an address that is no
    // (longer a) mapping of ours, or may not be written, is an error.
    unsafe { madvise(std::ptr::with_exposed_provenance_mut(page), PAGE, Advice::LinuxPopulateWrite) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

    use super::*;

    const SMAPS: &str = "\
55550000-55560000 r-xp 00000000 fe:00 12 /bin/x
VmFlags: rd ex mr mw me
7f0000100000-7f0004100000 rw-p 00000000 00:00 0
Size:              65536 kB
VmFlags: rd wr mr mw me ac hg
7f0005000000-7f0006000000 rw-p 00000000 00:00 0
VmFlags: rd wr mr mw me ac
";

    #[test]
    fn a_mapping_counts_if_it_asks_for_huge_pages() {
        assert_eq!(Mapping::holding(0x7f00_0020_0000, SMAPS), Some(Mapping(0x7f00_0020_0000..0x7f00_0400_0000)));
        assert_eq!(Mapping::holding(0x7f00_0500_0000, SMAPS), None);
        assert_eq!(Mapping::holding(0x1000, SMAPS), None);
    }

    #[test]
    fn the_first_missing_page_of_a_stretch_in_use_is_prepared() {
        let bytes = 3 * STRETCH;
        // SAFETY: a fresh mapping that nothing else knows, unmapped below.
        let start = unsafe {
            mmap_anonymous(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        }
        .expect("the machine has 96 MiB of addresses");
        let first = start.addr().next_multiple_of(PAGE);
        let mapping = Mapping(first..start.addr() + bytes);
        let map = File::open("/proc/self/pagemap").expect("this is Linux");
        let present = |page: usize| is_present(&map, first + page * PAGE).expect("it is mapped");
        assert!(!mapping.prepare_one(0).expect("it can be read"), "no stretch is in use");
        populate(first + PAGE).expect("it is ours");
        for turn in [0, 1] {
            assert!(mapping.prepare_one(turn).expect("it can be prepared"));
        }
        assert_eq!([0, 1, 2, 3, 16].map(present), [true, true, true, false, false]);
        // SAFETY: nobody has a reference into it.
        unsafe { munmap(start, bytes) }.expect("it was mapped");
    }
}
