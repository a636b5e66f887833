//! What is out of the ordinary about an execution, one bit each.
//!
//! A row of [`TRAITS`] is all that a trait needs: alerts, recipes and their examples take it from
//! here.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::process::Image;
use crate::text::Text;

/// One trait. The number is its bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trait {
    Memfd,
    Tmpfile,
    Deleted,
    Detached,
    Overlay,
    UpperLayer,
    Setuid,
    Setgid,
    FileCaps,
    Secure,
    BinfmtMisc,
    CwdDeleted,
    Argv0Differs,
}

/// Name in recipes (`what`), name in alerts, and the trait.
pub const TRAITS: &[(&str, &str, Trait)] = &[
    ("exe_memfd", "memfd", Trait::Memfd),
    ("exe_tmpfile", "tmpfile", Trait::Tmpfile),
    ("exe_deleted", "deleted", Trait::Deleted),
    ("exe_detached", "detached", Trait::Detached),
    ("exe_overlay", "overlay", Trait::Overlay),
    ("exe_upper_layer", "upper_layer", Trait::UpperLayer),
    ("exe_setuid", "setuid", Trait::Setuid),
    ("exe_setgid", "setgid", Trait::Setgid),
    ("exe_file_caps", "file_caps", Trait::FileCaps),
    ("exe_secure", "secure_exec", Trait::Secure),
    ("exe_binfmt_misc", "binfmt_misc", Trait::BinfmtMisc),
    ("cwd_deleted", "cwd_deleted", Trait::CwdDeleted),
    ("argv0_differs", "argv0_differs", Trait::Argv0Differs),
];

/// A set of traits; in JSON those that hold, each `true`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits(u32);

impl Traits {
    pub const fn has(self, one: Trait) -> bool {
        self.0 & (1 << one as u32) != 0
    }

    pub const fn set(&mut self, one: Trait, holds: bool) {
        if holds {
            self.0 |= 1 << one as u32;
        }
    }
}

impl FromIterator<(Trait, bool)> for Traits {
    fn from_iter<I: IntoIterator<Item = (Trait, bool)>>(all: I) -> Self {
        let mut traits = Self::default();
        all.into_iter().for_each(|(one, holds)| traits.set(one, holds));
        traits
    }
}

impl Serialize for Traits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (_, name, one) in TRAITS {
            if self.has(*one) {
                map.serialize_entry(name, &true)?;
            }
        }
        map.end()
    }
}

/// `O_TMPFILE` names its file `#` and the inode's number; nobody else can see that name.
pub fn is_tmpfile_name(path: &Text) -> bool {
    let base = path.as_str().rsplit('/').next().unwrap_or_default();
    base.strip_prefix('#').is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

impl Image {
    pub fn argv0(&self) -> &str {
        self.args.first().map_or("", Text::as_str)
    }

    /// The first argument is neither the name that was executed nor the executable's: the caller
    /// chose it to be read in a process list. A login shell's dash is no such choice, and a
    /// script has lost its own.
    pub(crate) fn argv0_differs(&self) -> bool {
        let argv0 = self.argv0();
        let name = base(argv0.strip_prefix('-').unwrap_or(argv0));
        self.script.is_none()
            && !self.pathname.is_empty()
            && name != base(self.pathname.as_str())
            && name != base(self.exe.as_str())
    }

    /// The program that the dynamic loader was asked to run, when the loader itself was executed:
    /// `ld.so [options] PROGRAM`. None when it was only asked a question.
    pub fn loader_target(&self) -> Option<&str> {
        if !is_loader(base(self.exe.as_str())) {
            return None;
        }
        let mut args = self.args.iter().skip(1).map(Text::as_str);
        while let Some(arg) = args.next() {
            if QUESTIONS.contains(&arg) {
                return None;
            }
            if !arg.starts_with("--") {
                return Some(arg);
            }
            if WITH_VALUE.contains(&arg) {
                args.next();
            }
        }
        None
    }
}

const QUESTIONS: [&str; 6] =
    ["--verify", "--list", "--list-diagnostics", "--list-tunables", "--version", "--help"];
const WITH_VALUE: [&str; 7] = [
    "--library-path",
    "--inhibit-rpath",
    "--audit",
    "--preload",
    "--argv0",
    "--glibc-hwcaps-prepend",
    "--glibc-hwcaps-mask",
];

/// `ld-linux-x86-64.so.2`, `ld-musl-x86_64.so.1`, `ld64.so.2`, `ld-2.31.so`, `ld.so`.
fn is_loader(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("ld") else { return false };
    let Some((middle, end)) = rest.split_once(".so") else {
        return false;
    };
    let version = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let known = middle.is_empty()
        || middle == "64"
        || middle.starts_with("-linux")
        || middle.starts_with("-musl-")
        || middle.strip_prefix('-').is_some_and(version);
    known && version(end)
}

/// When an executable was last changed (its ctime, which no program can set), as recipes and
/// alerts say it: `boot`, `image` or `no`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Written {
    /// Not since the system that the process runs in has started.
    #[default]
    No,
    /// Since boot; of processes in the initial pid namespace.
    Boot,
    /// Since the first process of the pid namespace began; of all others.
    Image,
}

impl Written {
    pub const ALL: [Self; 3] = [Self::No, Self::Boot, Self::Image];

    pub const fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Boot => "boot",
            Self::Image => "image",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(exe: &str, pathname: &str, args: &[&str]) -> Image {
        Image {
            exe: exe.into(),
            pathname: pathname.into(),
            args: args.iter().copied().map(Text::from).collect(),
            ..Image::default()
        }
    }

    #[test]
    fn each_trait_has_one_bit_and_one_row() {
        for (at, (_, _, one)) in TRAITS.iter().enumerate() {
            assert_eq!(*one as usize, at);
        }
    }

    #[test]
    fn a_name_that_was_chosen_differs() {
        let differs = |exe, pathname, argv0| image(exe, pathname, &[argv0]).argv0_differs();
        assert!(differs("/tmp/x", "/tmp/x", "[kworker/0:1]"));
        assert!(differs("/tmp/x", "./x", "/usr/sbin/sshd"));
        assert!(differs("/tmp/x", "./x", ""));
        assert!(!differs("/usr/bin/dash", "/bin/sh", "sh"));
        assert!(!differs("/usr/bin/bash", "/bin/bash", "-bash"));
        assert!(!differs("/usr/bin/vim.basic", "/usr/bin/vi", "vi"));
        assert!(!differs("/usr/lib/executor", "/dev/fd/3", "executor"));
    }

    #[test]
    fn the_loader_tells_its_program() {
        let ld = "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
        let target =
            |exe: &str, args: &[&str]| image(exe, exe, args).loader_target().map(str::to_owned);
        assert_eq!(target(ld, &["ld", "/bin/true", "--list"]).as_deref(), Some("/bin/true"));
        let with = ["ld", "--library-path", "/x", "--preload=/y", "./prog"];
        assert_eq!(target(ld, &with).as_deref(), Some("./prog"));
        assert_eq!(target(ld, &["ld", "--list", "/bin/true"]), None);
        assert_eq!(target(ld, &["ld"]), None);
        assert_eq!(target("/lib/ld-musl-x86_64.so.1", &["ld", "x"]).as_deref(), Some("x"));
        assert_eq!(target("/lib/ld-2.31.so", &["ld", "x"]).as_deref(), Some("x"));
        for other in ["/usr/bin/ld", "/usr/bin/ld.bfd", "/usr/lib/ldap.so.1", "/usr/lib/ldb.so"] {
            assert_eq!(target(other, &["ld", "x"]), None, "{other}");
        }
    }

    #[test]
    fn a_tmpfile_has_a_number_for_a_name() {
        assert!(is_tmpfile_name(&"/tmp/#1234".into()));
        assert!(!is_tmpfile_name(&"/tmp/#".into()) && !is_tmpfile_name(&"/tmp/#1a".into()));
    }
}
