//! One process image with its lineage.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use super::containers::Container;
use super::stdio::Stdio;
use super::traits::{Traits, Written};
use crate::content::{Sum, Untold};
use crate::event::TaskKey;
use crate::text::Text;

/// Links to the parents that a process keeps alive. A chain of daemons that fork and exit for
/// ever would otherwise keep every ancestor it ever had.
pub const LINEAGE_MAX: usize = 64;

/// One image of one process: what ran between two `execve` (or fork and `execve`, or exit).
///
/// Immutable but for its end, so that alerts and children share it without locks. It holds its
/// parent *as it was at fork*: lineage survives the parent's exit and its later images.
#[derive(Debug, Default)]
pub struct Process {
    pub key: TaskKey,
    /// The image that forked this process; none for pid 1, kernel threads and what predates us.
    pub parent: Option<Arc<Process>>,
    /// The image that this process ran before the present one (`prev_exe`, `prev_args`): the
    /// parent's until the first `execve`. Only its texts are kept, not its lineage.
    pub previous: Option<Arc<Image>>,
    pub image: Arc<Image>,
    pub ppid: u32,
    /// Wall clock, from the kernel's start time.
    pub start: Option<SystemTime>,
    /// When this image was executed; none when forked and not (yet) executed.
    pub exec: Option<SystemTime>,
    pub creds: Creds,
    pub namespaces: Namespaces,
    /// Inode of the cgroup v2 directory.
    pub cgroup: u64,
    /// Its cgroup in a v1 hierarchy: inode, with the hierarchy's number from bit 48 on; 0: none.
    pub cgroup1: u64,
    pub(crate) container: OnceLock<Arc<Container>>,
    pub cwd: Text,
    /// Controlling terminal ("pts0"), empty without one.
    pub tty: Text,
    pub comm: Text,
    pub(crate) end: OnceLock<(SystemTime, i32)>,
    pub(crate) children: AtomicU64,
    pub(crate) child_execs: AtomicU64,
}

/// What was executed and how.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pub exe: Text,
    /// The argument vector, head and tail of it where it was too long.
    pub args: Vec<Text>,
    /// Bytes of the whole argument list, NULs included.
    pub args_length: u32,
    pub args_truncated: bool,
    /// The script that the kernel was asked to run, when `exe` is its interpreter.
    pub script: Option<Text>,
    /// The dynamic loader that the ELF asks for is not known here; this is the `#!` program.
    pub interpreter: Option<Text>,
    /// As execve was asked for it: a symbolic link's name, `/dev/fd/3`, a relative path. Empty
    /// for what was executed before we watched.
    pub pathname: Text,
    pub dev: u64,
    pub inode: u64,
    /// `st_mode`, owner, bytes and names of the file, when it was executed.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub links: u32,
    /// Nanoseconds since 1970, as the file system keeps them; 0 where unknown.
    pub mtime_ns: u64,
    pub ctime_ns: u64,
    /// The file system's number (`linux/magic.h`); 0 where unknown.
    pub magic: u32,
    pub traits: Traits,
    pub written: Written,
    /// Standard streams that were sockets.
    pub stdio: Box<[Stdio]>,
    /// Set once, by whoever reads the file: see [`crate::content`].
    pub sha256: OnceLock<Content>,
}

/// The SHA-256 of a file's content, or why it cannot be told.
pub type Content = Result<Sum, Untold>;

/// User, group and capability sets, as in `struct cred`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Creds {
    pub uid: u32,
    pub gid: u32,
    pub euid: u32,
    pub egid: u32,
    /// Bit n is capability n (`linux/capability.h`).
    pub cap_effective: u64,
    pub cap_permitted: u64,
    pub cap_inheritable: u64,
    /// Audit login uid; `u32::MAX` when never set.
    pub loginuid: u32,
    pub sessionid: u32,
}

/// Inode numbers of the namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    pub mnt: u32,
    pub pid: u32,
    pub uts: u32,
    pub ipc: u32,
    pub net: u32,
    pub cgroup: u32,
    pub user: u32,
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.key.tgid
    }

    pub fn exe(&self) -> &str {
        self.image.exe.as_str()
    }

    /// Base name of the executable: the recipes' `cmd`.
    pub fn cmd(&self) -> &str {
        self.exe().rsplit('/').next().unwrap_or_default()
    }

    /// The arguments joined by spaces: the recipes' `args`.
    pub fn args(&self) -> String {
        self.image.args_joined()
    }

    /// The container that it is in, once that is known.
    pub fn container(&self) -> Option<&Arc<Container>> {
        self.container.get()
    }

    /// When it ended and its wait status (`exit code << 8 | signal`); none while it runs.
    pub fn end(&self) -> Option<(SystemTime, i32)> {
        self.end.get().copied()
    }

    /// The first report of the end is kept.
    pub fn ended(&self, at: SystemTime, status: i32) {
        let _ = self.end.set((at, status));
    }

    /// Processes that this image forked, as far as they were seen.
    pub fn children(&self) -> u64 {
        self.children.load(Ordering::Relaxed)
    }

    pub fn count_child(&self) {
        self.children.fetch_add(1, Ordering::Relaxed);
    }

    /// Images that its children executed, as far as they were seen.
    pub fn child_execs(&self) -> u64 {
        self.child_execs.load(Ordering::Relaxed)
    }

    pub fn count_child_exec(&self) {
        self.child_execs.fetch_add(1, Ordering::Relaxed);
    }

    /// The process itself, its parent, and so on up to the oldest that is known.
    pub fn lineage(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |process| process.parent.as_deref()).take(LINEAGE_MAX)
    }
}

impl Process {
    /// The same image under another parent; its end and children are copied as they are now.
    pub fn with_parent(&self, parent: Option<Arc<Self>>) -> Self {
        Self {
            key: self.key,
            parent,
            previous: self.previous.clone(),
            image: Arc::clone(&self.image),
            ppid: self.ppid,
            start: self.start,
            exec: self.exec,
            creds: self.creds,
            namespaces: self.namespaces,
            cgroup: self.cgroup,
            cgroup1: self.cgroup1,
            container: self.container.clone(),
            cwd: self.cwd.clone(),
            tty: self.tty.clone(),
            comm: self.comm.clone(),
            end: self.end.clone(),
            children: AtomicU64::new(self.children()),
            child_execs: AtomicU64::new(self.child_execs()),
        }
    }
}

impl Image {
    /// What its content was found to be; none when nobody asked, or not yet.
    pub fn sha256(&self) -> Option<Content> {
        self.sha256.get().copied()
    }

    /// The first finding is kept.
    pub(crate) fn found(&self, content: Content) {
        let _ = self.sha256.set(content);
    }

    /// None where the file is not known.
    pub fn mtime(&self) -> Option<SystemTime> {
        (self.mtime_ns != 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_nanos(self.mtime_ns))
    }

    /// When the file was last changed, which no program can set.
    pub fn ctime(&self) -> Option<SystemTime> {
        (self.ctime_ns != 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_nanos(self.ctime_ns))
    }

    pub fn args_joined(&self) -> String {
        let mut joined = String::new();
        for (at, arg) in self.args.iter().enumerate() {
            if at > 0 {
                joined.push(' ');
            }
            joined.push_str(arg.as_str());
        }
        joined
    }
}

/// A text of fixed room in a row: up to its first NUL.
pub fn bounded_text(bytes: &[u8]) -> Text {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    Text::new(&bytes[..end])
}
