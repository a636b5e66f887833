//! A directory of a test's own, and what was told of what lies in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::acts::{counts, fork, of, told, wait};
use crate::common::{exec_recipe, file_recipe};

/// All acts on files but `close`, whose hook costs each call of the host.
const ACTIONS: &str = "[open, read, write, create, link, rename, unlink, truncate, mmap, chmod, \
     utimes, setid, setcap, setxattr, mmap_write, receive, exchange]";

pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as a string, which alerts have.
    pub fn told(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    pub fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.at(name);
        fs::write(&path, "hay in a stack, and a needle").unwrap();
        path
    }

    pub fn dir(&self, name: &str) -> PathBuf {
        fs::create_dir_all(self.at(name)).unwrap();
        self.at(name)
    }

    /// Recipes on what is done (`file`) and executed (`run`) in here.
    pub fn recipes(&self) -> String {
        let regex = format!("^{}/", self.folder.path().display());
        file_recipe("file", &regex, ACTIONS) + &exec_recipe("run", &regex)
    }

    /// What was told of one process and one name of a file in here.
    pub fn counts(&self, alerts: &[Value], pid: u32, name: &str) -> Counts {
        counts(alerts, "file", pid, &self.told(name))
    }
}

pub type Counts = BTreeMap<String, u64>;

pub fn acts(text: &str) -> Counts {
    told(text)
}

/// `device inode` of a file as alerts tell it.
pub fn identity(path: impl AsRef<Path>) -> String {
    let file = fs::metadata(path).unwrap();
    format!("{}:{} {}", libc::major(file.dev()), libc::minor(file.dev()), file.ino())
}

/// The same from what was told of one process and path; empty when nothing was.
pub fn identity_told(alerts: &[Value], pid: u32, path: &str) -> String {
    let alert = of(alerts, "file", pid).find(|alert| alert["file"]["path"] == path);
    alert.map_or_else(String::new, |alert| {
        format!("{} {}", alert["file"]["device"].as_str().unwrap(), alert["file"]["inode"])
    })
}

/// Does `act` in a child; none where it ended otherwise than well (what it needs is absent).
pub fn if_possible(act: impl FnOnce()) -> Option<u32> {
    let pid = fork(act);
    (wait(pid) == 0).then_some(pid)
}
