//! An engine whose disk fails under it. The file systems are real; mounting one needs root, and without it these tests say so.

use std::path::Path;
use std::process::Command;

use clutchcall::engine::Engine;
use serde_json::json;

use crate::bridges::get;
use crate::common::{Bench, call, config, wait_for};

/// A file system of its own, until it is dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    /// `None`: nobody may mount here.
    fn of(size: &str) -> Option<Self> {
        let disk = Self(tempfile::tempdir().unwrap());
        if mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], disk.path()) {
            return Some(disk);
        }
        eprintln!("left out: only root may mount a file system");
        assert!(!is_root(), "root may mount");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

/// A disk image of its own, which its file system makes read-only when it finds an error: what a real disk that breaks becomes.
struct Image {
    disk: Disk,
    _file: tempfile::NamedTempFile,
}

impl Image {
    /// `None`: nobody may mount here, or there is no ext4.
    fn new() -> Option<Self> {
        Disk::of("1m")?;
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(16 << 20).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg(file.path()).status();
        let disk = Disk(tempfile::tempdir().unwrap());
        let options = ["-o", "loop,errors=remount-ro", file.path().to_str().unwrap()];
        if made.is_ok_and(|made| made.success()) && mount(&options, disk.path()) {
            return Some(Self { disk, _file: file });
        }
        eprintln!("left out: no ext4 on a loop device here");
        None
    }

    /// From now on nothing can be written, also by whoever has a file open.
    fn breaks(&self) {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mine = fields.rfind(|fields| Path::new(fields[1]) == self.disk.path()).unwrap();
        let device = Path::new(mine[0]).file_name().unwrap();
        let trigger = Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error");
        std::fs::write(trigger, "a test").unwrap();
        let probe = self.disk.path().join("probe");
        wait_for(|| {
            let error = std::fs::write(&probe, "x").err()?;
            (error.kind() == std::io::ErrorKind::ReadOnlyFilesystem).then_some(())
        });
    }
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    Command::new("mount").args(arguments).arg(at).output().is_ok_and(|done| done.status.success())
}

/// In a container root may lack the right to mount.
fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let capabilities = u64::from_str_radix(&field("CapEff:"), 16).unwrap();
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    capabilities & CAP_SYS_ADMIN != 0
}

fn figure(bench: &Bench, name: &str) -> u64 {
    let text = get(bench.engine.base_url(), "/metrics");
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name}: {text}")).split(' ').nth(1).unwrap().parse().unwrap()
}

/// Row "disk full" of the faults: live calls go on, their records wait, a new call is refused by cause, and nothing is lost.
#[test]
fn a_full_disk_refuses_new_calls_and_loses_no_record() {
    let Some(disk) = Disk::of("1m") else { return };
    let state = tempfile::tempdir_in(disk.path()).unwrap();
    let bench = Bench { engine: Engine::start(config(state.path())).unwrap(), state };
    let (lives, ends) = (bench.originate("+15550009011"), bench.originate("+15550009011"));
    bench.wait(&lives, &["in_progress"]);
    bench.wait(&ends, &["in_progress"]);
    let filler = disk.path().join("filler");
    std::fs::write(&filler, vec![0; 1 << 20]).unwrap_err();
    // What the journal has reserved already may take a few more.
    let refused = wait_for(|| {
        let answer = bench.post("voice.calls.originate", &call("+15550009000"));
        (answer.status != 200).then_some(answer)
    });
    let message = refused.error(503, "SERVICE_UNAVAILABLE");
    assert!(message.contains("full") && message.contains("free space"), "{message}");
    assert!(refused.head.contains("retry-after"));
    let dialled = json!({"trunk_id": "trunk_main", "to": "+15550009000", "call_from": "+15558675309"});
    assert_eq!(
        bench.post("telephony.originate", &dialled).data()["error_code"],
        5,
        "the vendor's number of the engine"
    );
    assert!(get(bench.engine.base_url(), "/readyz").contains("the record store fails"));
    bench.hangup(&ends).data();
    for (sid, status) in [(&lives, "in_progress"), (&ends, "completed")] {
        assert_eq!(bench.row(sid)["status"], status);
        let listed = bench.get("voice.calls.list", &json!({"limit": 500})).data();
        let row = listed["calls"].as_array().unwrap().iter().find(|row| row["sid"] == **sid).cloned();
        assert_eq!(row.unwrap()["status"], status);
    }
    assert_eq!(figure(&bench, "clutchcall_store_failing"), 1);
    assert!(figure(&bench, "clutchcall_store_waiting") >= 1);
    assert_eq!(figure(&bench, "clutchcall_store_dropped_total"), 0);

    std::fs::remove_file(&filler).unwrap();
    wait_for(|| (figure(&bench, "clutchcall_store_failing") == 0).then_some(()));
    assert_eq!(figure(&bench, "clutchcall_store_waiting"), 0);
    bench.originate("+15550009000");
    let Bench { engine, state } = bench;
    engine.shutdown();
    let bench = Bench { engine: Engine::start(config(state.path())).unwrap(), state };
    assert_eq!(bench.row(&ends)["endReason"], "normal");
    assert_eq!(bench.row(&lives)["endReason"], "server_shutdown");
}

#[test]
fn a_disk_that_is_full_or_read_only_at_the_start_is_named() {
    let Some(disk) = Disk::of("1m") else { return };
    let state = disk.path().join("state");
    Engine::start(config(&state)).unwrap().shutdown();
    let filler = disk.path().join("filler");
    std::fs::write(&filler, vec![0; 1 << 20]).unwrap_err();
    let error = Engine::start(config(&state)).err().unwrap();
    // Whichever file is the first to need room.
    let folder = state.to_str().unwrap();
    assert!(error.contains(folder) && (error.contains("free space") || error.contains("No space left")), "{error}");
    std::fs::remove_file(&filler).unwrap();
    Engine::start(config(&state)).unwrap().shutdown();
    assert!(mount(&["-o", "remount,ro"], disk.path()));
    let error = Engine::start(config(&state)).err().unwrap();
    assert!(error.contains(folder) && error.contains("writable"), "{error}");
}

/// Row "disk read-only" of the faults, as it happens: under a running engine.
#[test]
fn a_disk_that_becomes_read_only_refuses_new_calls_and_ends_none() {
    let Some(image) = Image::new() else { return };
    let state = tempfile::tempdir_in(image.disk.path()).unwrap();
    let bench = Bench { engine: Engine::start(config(state.path())).unwrap(), state };
    let (lives, ends) = (bench.originate("+15550009011"), bench.originate("+15550009011"));
    bench.wait(&lives, &["in_progress"]);
    bench.wait(&ends, &["in_progress"]);
    image.breaks();
    for _ in 0..2 {
        let refused = bench.post("voice.calls.originate", &call("+15550009000"));
        let message = refused.error(503, "SERVICE_UNAVAILABLE");
        assert!(message.contains("Read-only file system") && message.contains("writable"), "{message}");
    }
    assert!(get(bench.engine.base_url(), "/readyz").contains("Read-only file system"));
    bench.hangup(&ends).data();
    for (sid, status) in [(&lives, "in_progress"), (&ends, "completed")] {
        assert_eq!(bench.row(sid)["status"], status);
        let listed = bench.get("voice.calls.list", &json!({"status": status})).data();
        assert_eq!(listed["calls"].as_array().unwrap().iter().map(|row| &row["sid"]).collect::<Vec<_>>(), [sid]);
    }
    assert_eq!(figure(&bench, "clutchcall_store_failing"), 1);
    assert!(figure(&bench, "clutchcall_store_waiting") >= 1);
    assert_eq!(figure(&bench, "clutchcall_store_dropped_total"), 0);
    // What lives goes on to its own end, and so does the engine.
    bench.hangup(&lives).data();
    assert_eq!(bench.row(&lives)["status"], "completed");
    bench.engine.shutdown();
}

/// A file that is spoiled under a running engine: whatever is still in memory goes on, and nothing panics or hangs. The next start says
/// what to do.
#[test]
fn a_spoiled_file_ends_no_call() {
    let bench = Bench::new();
    let (lives, ends) = (bench.originate("+15550009011"), bench.originate("+15550009011"));
    bench.wait(&lives, &["in_progress"]);
    bench.wait(&ends, &["in_progress"]);
    for file in ["calls.db", "calls.db-wal"] {
        let path = bench.state.path().join(file);
        let length = std::fs::metadata(&path).unwrap().len() as usize;
        // In place: the engine has it open.
        let mut open = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::io::Write::write_all(&mut open, &vec![b'x'; length.max(8192)]).unwrap();
    }
    bench.hangup(&ends).data();
    assert_eq!(bench.row(&ends)["status"], "completed");
    assert_eq!(bench.row(&lives)["status"], "in_progress");
    for answer in [
        bench.post("voice.calls.originate", &call("+15550009000")),
        bench.get("voice.calls.list", &json!({})),
        bench.get("voice.calls.get", &json!({"sid": "CA1NOBODY"})),
    ] {
        // What SQLite has in its cache it may still serve; what it must read it calls damaged.
        if answer.status == 503 {
            let message = answer.error(503, "SERVICE_UNAVAILABLE");
            assert!(message.contains("record store fails"), "{message}");
        } else {
            assert!([200, 404].contains(&answer.status), "{answer:?}");
        }
    }
    assert_eq!(bench.row(&lives)["status"], "in_progress", "it went on");
    bench.hangup(&lives).data();
    let Bench { engine, state } = bench;
    engine.shutdown();
    std::fs::write(state.path().join("calls.db"), [b'x'; 8192]).unwrap();
    let error = Engine::start(config(state.path())).err().unwrap();
    assert!(error.contains("calls.db") && error.contains("damaged"), "{error}");
}
