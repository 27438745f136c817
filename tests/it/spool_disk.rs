//! The spool on real disks that fill up, turn read-only, or go away: a small tmpfs in a mount namespace of its own, which is
//! gone with the test. Each time the same must hold: said once, the drains go on, and when the disk works again all that no
//! drain has confirmed is on it, in order, so that not even a SIGKILL right then loses a line.

use crate::{
    spool::{look, moody, nothing_but_a_tail_is_missing, numbers},
    support::{
        fuse,
        http::HttpSink,
        judge::Terms,
        ms,
        tcp::{Plan, TcpSink},
        tools, until,
        wrapper::Setup,
    },
};
use nix::sys::signal::Signal;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// A file system that only those see who enter its namespace.
pub struct SmallDisk {
    /// Keeps the namespace; ends when its stdin does.
    holder: Child,
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// In memory.
    fn mount(options: &str) -> Self {
        Self::by(&format!("mount -t tmpfs -o {options} tmpfs \"$0\""))
    }

    /// Whoever asks it for anything hangs, as on a network disk that is gone: nobody serves it (fuse(4)).
    pub fn hanging() -> Self {
        Self::fuse().0
    }

    /// A file on it can be opened (by a shell, for appending) as the stderr of a program in Rust, and hangs in each write.
    pub fn hanging_once_open() -> Self {
        let (disk, device) = Self::fuse();
        thread::spawn(move || fuse::serve(device));
        disk
    }

    /// With the device by which it is served.
    fn fuse() -> (Self, fs::File) {
        assert!(Path::new("/dev/fuse").exists(), "/dev/fuse is missing: modprobe fuse; a container needs the device");
        let device = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").expect("the device opens");
        let options = "fd=1,rootmode=40000,user_id=0,group_id=0";
        let stdout = device.try_clone().expect("a descriptor").into();
        (Self::by_with(&format!("mount -i -t fuse -o {options} hanging \"$0\""), stdout), device)
    }

    fn by(mount: &str) -> Self {
        Self::by_with(mount, Stdio::null())
    }

    fn by_with(mount: &str, stdout: Stdio) -> Self {
        tools::root();
        tools::program("/usr/bin/unshare", "util-linux");
        tools::program("/usr/bin/nsenter", "util-linux");
        tools::program("/usr/bin/mount", "mount");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let script = format!("{mount} && echo mounted >&2 && exec cat");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).arg(dir.path());
        let holder = command.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::piped()).spawn();
        let disk = Self { holder: holder.expect("unshare starts"), dir };
        until("the file system to be mounted", ms(10_000), || {
            let mounts = fs::read_to_string(format!("/proc/{}/mounts", disk.holder.id())).unwrap_or_default();
            mounts.contains(&*disk.dir.path().to_string_lossy())
        });
        disk
    }

    /// Words before a command that is to see it.
    pub fn launcher(&self) -> [String; 2] {
        ["nsenter".into(), format!("--mount=/proc/{}/ns/mnt", self.holder.id())]
    }

    /// The spool's directory, for those inside.
    fn spool(&self) -> String {
        self.inside("spool")
    }

    /// A file on it, for those inside.
    pub fn inside(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    /// A file on it, for us.
    fn outside(&self, name: &str) -> PathBuf {
        let inside = self.dir.path().join(name);
        let inside = inside.strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(inside)
    }

    fn remount(&self, how: &str) {
        let [nsenter, namespace] = self.launcher();
        let mut command = Command::new(nsenter);
        command.args([&namespace, "mount", "-o", &format!("remount,{how}")]).arg(self.dir.path());
        assert!(command.status().expect("nsenter starts").success(), "remount,{how}");
    }

    fn fill(&self) {
        let mut ballast = fs::File::create(self.outside("ballast")).expect("there is room for a name");
        while ballast.write_all(&[0; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.outside("ballast")).expect("it is there");
    }

    fn setup(&self) -> Setup {
        let [nsenter, namespace] = self.launcher();
        Setup::loud().launcher(&[&nsenter, &namespace]).flags(["--spool", &self.spool()])
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

const TROUBLE: &str = "drains go on from memory, and it is tried again";

/// Starts with a disk that is well, or not; breaks it; mends it while one drain is still down; kills lastword when it says that
/// the spool works again; and judges what the next run sends.
fn outage(well_at_first: bool, fail: impl Fn(&SmallDisk), mend: impl Fn(&SmallDisk)) {
    let disk = SmallDisk::mount("size=4m");
    let (http, well) = moody(1);
    let tcp = TcpSink::start(Plan::default());
    if !well_at_first {
        fail(&disk);
    }
    // What the spool's thread keeps is 512 KiB: fewer lines than are written in the outage. A drain keeps twice that.
    let setup = disk.setup().flags(["--memory", "2MiB"]).drain(&http.url("http")).drain(&tcp.url("tcp"));
    let before = setup.oracle("--source before --count 200 --rate 4000 --err-every 3").join(" ");
    let meanwhile = setup.oracle("--source meanwhile --count 1500 --rate 4000 --err-every 3 --shape f300").join(" ");
    let script = format!(
        "{before}; until test -e $RECORD.fails; do sleep 0.02; done; {meanwhile}; while kill -0 $PPID; do sleep 0.1; done"
    );
    let mut run = setup.start(&["sh", "-c", &script]);
    run.wrote(200);
    if well_at_first {
        fail(&disk);
    }
    fs::write(run.path("record.fails"), "").expect("our own directory");
    run.says(TROUBLE, 1);
    run.wrote(1700);
    let written = run.record();
    mend(&disk);
    run.says("works again after", 1);
    run.signal(Signal::SIGKILL);
    let first = run.finish(Duration::from_secs(20));
    let err = first.err();
    assert_eq!(err.matches(TROUBLE).count(), 1, "said once: {err}");
    assert!(err.contains("; nothing is missing in it"), "{err}");

    let (code, kept) = look(&["cat"], &disk.outside("spool"));
    assert_eq!(code, 0);
    let there = numbers(kept.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()));
    for (source, extent) in &written.sources {
        let there = there.get(source).cloned().unwrap_or_default();
        let missing: Vec<u64> = (1..=extent.done).filter(|number| !there.contains(number)).collect();
        assert!(missing.is_empty(), "{source:?} of {}: not in the spool: {missing:?}; {err}", extent.done);
    }
    well.store(true, std::sync::atomic::Ordering::SeqCst);
    let second = disk.setup().drain(&http.url("http")).drain(&tcp.url("tcp")).start(&["true"]);
    let second = second.finish(Duration::from_secs(60));
    let books = second.report.as_ref().expect("a report").of("http");
    assert!(books.lost() == 0 && books.adopted == books.confirmed, "{books:?}");
    for seen in [http.collect(), tcp.collect()] {
        nothing_but_a_tail_is_missing(&first.record, &seen, &kept, &err);
        assert!(seen.gaps.is_empty(), "{:?}", seen.gaps);
    }
}

#[test]
fn a_disk_that_was_full_for_a_while_has_all_that_was_not_delivered() {
    outage(true, SmallDisk::fill, SmallDisk::make_room);
}

#[test]
fn a_disk_that_was_read_only_for_a_while_has_all_that_was_not_delivered() {
    outage(true, |disk| disk.remount("ro"), |disk| disk.remount("rw"));
}

#[test]
fn a_directory_that_went_away_and_came_back_has_all_that_was_not_delivered_since() {
    let disk = SmallDisk::mount("size=4m");
    let http = HttpSink::healthy();
    let mut run = disk.setup().drain(&http.url("http")).start_oracle("--rate 2000 --err-every 3");
    run.wrote(200);
    // What is in its place can't be a spool, until it goes away, too.
    fs::rename(disk.outside("spool"), disk.outside("old")).expect("it is there");
    fs::write(disk.outside("spool"), "in the way").expect("a fresh name");
    run.says(TROUBLE, 1);
    let begun = run.record().done();
    run.wrote(begun + 200);
    fs::remove_file(disk.outside("spool")).expect("it is there");
    run.says("works again after", 1);
    run.stop();
    let done = run.finish(Duration::from_secs(20));
    done.acquit("http", &http.collect(), Terms { confirmed: true, ..Terms::default() });
}

#[test]
fn a_disk_that_is_read_only_at_the_start_is_used_as_soon_as_it_is_not() {
    outage(false, |disk| disk.remount("ro"), |disk| disk.remount("rw"));
}

#[test]
fn a_full_disk_at_the_start_keeps_no_backlog_from_being_sent_and_a_spool_that_is_required_refuses_it() {
    let disk = SmallDisk::mount("size=1m");
    let (http, well) = moody(1);
    let one = disk.setup().flags(["--flush-timeout", "1s"]).drain(&http.url("http"));
    let one = one.start_oracle("--count 300 --rate 0").finish(Duration::from_secs(30));
    assert_eq!(one.report.as_ref().expect("a report").of("http").spooled, 300, "{}", one.err());
    disk.fill();
    let refused = disk.setup().flags(["--spool-required"]).drain(&http.url("http")).start_oracle("--count 3");
    let refused = refused.finish(Duration::from_secs(20));
    assert_eq!((refused.code(), refused.record.done()), (125, 0), "{}", refused.err());
    assert!(refused.err().contains("--spool") && refused.err().contains("No space left"), "{}", refused.err());
    well.store(true, std::sync::atomic::Ordering::SeqCst);
    let two = disk.setup().drain(&http.url("http")).start(&["true"]).finish(Duration::from_secs(30));
    let books = two.report.as_ref().expect("a report").of("http");
    assert_eq!((books.adopted, books.confirmed, books.lost()), (300, 300, 0), "{books:?}; {}", two.err());
}

/// A FIFO of the name `lock` kept the app from starting until somebody wrote into it.
#[test]
fn fifos_in_the_place_of_a_spools_files_keep_no_app_from_starting() {
    let setup = Setup::new().flags(["--flush-timeout", "1s"]).drain("http://127.0.0.1:1/#name=http");
    let spool = setup.path("spool");
    fs::create_dir(&spool).expect("a fresh directory");
    // The second is the cursor of a drain called `http`: FNV-1a of its name.
    for name in ["lock", "8874a3cc15dc8285.cur", "0000000000000001.seg", "probe"] {
        nix::unistd::mkfifo(&spool.join(name), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    }
    let setup = setup.flags(["--spool", &spool.to_string_lossy()]);
    let done = setup.start_oracle("--count 30 --rate 0").finish(Duration::from_secs(20));
    assert_eq!((done.code(), done.record.done()), (0, 30), "{}", done.err());
    assert_eq!(done.report.as_ref().expect("a report").of("http").spooled, 30, "{}", done.err());
}

/// It left no number to lastword that the next run reads back: lines were called spooled that no run would find.
#[test]
fn a_file_with_the_highest_number_costs_no_line() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("7fffffffffffffff.seg"), "somebody else's").expect("a fresh file");
    for adopted in [0, 30] {
        let setup = Setup::new().flags(["--flush-timeout", "1s", "--spool", &dir.path().to_string_lossy()]);
        let setup = setup.drain("http://127.0.0.1:1/#name=http");
        let done = setup.start_oracle("--count 30 --rate 0").finish(Duration::from_secs(20));
        let books = done.report.as_ref().expect("a report").of("http");
        assert_eq!(
            (books.adopted, books.spooled, books.lost()),
            (adopted, adopted + 30, 0),
            "{books:?}; {}",
            done.err()
        );
    }
}

/// The app was never started, and lastword heard no stop: it hung in the opening of the spool, or in a look at the drain's file.
#[test]
fn a_disk_that_hangs_at_the_start_keeps_no_app_from_starting_and_a_spool_that_is_required_refuses_it() {
    for (required, names) in
        [("off", "the disk does not answer within 2 s"), ("on", "the disk does not answer within 10 s")]
    {
        let disk = SmallDisk::hanging();
        let file = format!("file:{}#name=file", disk.inside("app.log"));
        let setup = disk.setup().flags(["--flush-timeout", "1s"]).env("LASTWORD_SPOOL_REQUIRED", required).drain(&file);
        let done = setup.start_oracle("--count 30 --rate 0").finish(Duration::from_secs(40));
        let expected = if required == "on" { (125, 0) } else { (0, 30) };
        assert_eq!((done.code(), done.record.done()), expected, "{}", done.err());
        assert!(done.err().contains(names), "{}", done.err());
        if required == "off" {
            let books = done.report.as_ref().expect("a report").of("file");
            assert_eq!((books.read, books.lost()), (30, 30), "{books:?}");
            assert!(done.err().contains("last trouble: no answer from the disk of "), "{}", done.err());
        }
    }
}
