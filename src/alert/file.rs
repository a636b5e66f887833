//! A file in JSON: `file` of file_access and execution alerts.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::alert::Host;
use crate::alert::ids::{self, Hash64};
use crate::alert::json::{Hex, List, is_false};
use crate::event::{FILE_ACTIONS, File};

#[derive(Serialize)]
pub struct FileJson<'a> {
    uuid: Uuid,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_raw: Option<Hex<'a>>,
    dir: &'a str,
    basename: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    owner: Owner,
    actions: FileActions<'a>,
    permissions: Permissions,
    metadata: Metadata,
    device: String,
    inode: u64,
    /// Only where it was seen under more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<List<'a>>,
    #[serde(skip_serializing_if = "is_false")]
    deleted: bool,
    #[serde(skip_serializing_if = "is_false")]
    by_name: bool,
    #[serde(skip_serializing_if = "is_false")]
    truncated: bool,
    #[serde(skip_serializing_if = "is_false")]
    anonymous: bool,
    #[serde(skip_serializing_if = "is_false")]
    overlay: bool,
    file_hash: Hash64,
    dir_hash: Hash64,
    base_hash: Hash64,
}

#[derive(Serialize)]
struct Owner {
    uid: u32,
    gid: u32,
}

#[derive(Serialize)]
struct Metadata {
    /// Bytes.
    size: u64,
}

struct FileActions<'a>(&'a File);
struct Permissions(u32);

/// Names of the action booleans that consumers know, with the bit behind each.
const ACTION_FIELDS: [(&str, u32); FILE_ACTIONS.len()] = [
    ("open", 5),
    ("read", 6),
    ("write", 7),
    ("exec", 14),
    ("create", 11),
    ("unlink", 10),
    ("rename", 8),
    ("link", 13),
    ("truncate", 9),
    ("fsync", 2),
    ("flock", 1),
    ("mmap", 4),
    ("close", 12),
    ("async", 0),
    ("seek", 3),
    ("chmod", 15),
    ("chown", 16),
    ("utimes", 17),
    ("setxattr", 18),
    ("setacl", 19),
    ("setcap", 20),
    ("setflags", 21),
    ("setid", 22),
    ("symlink", 23),
    ("mkdir", 24),
    ("rmdir", 25),
    ("mknod", 26),
    ("clone", 27),
    ("mmap_exec", 28),
    ("mmap_write", 29),
    ("receive", 30),
    ("exchange", 31),
];

/// Permission booleans by the bit of `st_mode`.
const PERMISSION_FIELDS: [(&str, u32); 12] = [
    ("owner_read", 0o400),
    ("owner_write", 0o200),
    ("owner_exec", 0o100),
    ("group_read", 0o040),
    ("group_write", 0o020),
    ("group_exec", 0o010),
    ("other_read", 0o004),
    ("other_write", 0o002),
    ("other_exec", 0o001),
    ("setuid", 0o4000),
    ("setgid", 0o2000),
    ("sticky", 0o1000),
];

impl<'a> FileJson<'a> {
    pub fn new(file: &'a File, host: &Host) -> Self {
        let (dir, base) = split(file.path.as_str());
        let (dir_bytes, base_bytes) = split_bytes(file.path.bytes());
        Self {
            uuid: ids::file_uuid(host, file),
            path: file.path.as_str(),
            path_raw: Hex::raw(&file.path),
            dir,
            basename: base,
            kind: kind(file),
            owner: Owner { uid: file.uid, gid: file.gid },
            actions: FileActions(file),
            permissions: Permissions(file.mode),
            metadata: Metadata { size: file.size },
            device: format!("{}:{}", libc::major(file.dev), libc::minor(file.dev)),
            inode: file.inode,
            names: (file.names.len() > 1).then_some(List(&file.names)),
            deleted: file.deleted,
            by_name: file.by_name,
            truncated: file.truncated,
            anonymous: file.anonymous,
            overlay: file.overlay,
            file_hash: ids::bytes_hash("file", &[file.path.bytes()]),
            dir_hash: ids::bytes_hash("dir", &[dir_bytes]),
            base_hash: ids::bytes_hash("base", &[base_bytes]),
        }
    }
}

/// Directory and base name; "/" is the directory of "/a", and a bare name has none.
fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", base)) => ("/", base),
        Some(parts) => parts,
        None => ("", path),
    }
}

/// The same over the exact bytes, for the hashes.
fn split_bytes(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(0) => (b"/", &path[1..]),
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

fn kind(file: &File) -> &'static str {
    match file.mode & libc::S_IFMT {
        libc::S_IFREG => "regular",
        libc::S_IFDIR => "directory",
        libc::S_IFLNK => "symlink",
        libc::S_IFCHR => "char_device",
        libc::S_IFBLK => "block_device",
        libc::S_IFIFO => "fifo",
        libc::S_IFSOCK => "socket",
        _ => "unknown",
    }
}

impl Serialize for FileActions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(file) = self;
        let names: Vec<&str> = (0u32..)
            .zip(FILE_ACTIONS)
            .filter(|&(bit, _)| file.actions.has(bit))
            .map(|(_, name)| name)
            .collect();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("actions", &names)?;
        for (name, bit) in ACTION_FIELDS {
            map.serialize_entry(name, &file.actions.has(bit))?;
        }
        map.serialize_entry("counts", &Counts(&file.counts))?;
        map.end()
    }
}

/// Kernel events by action, those that happened.
struct Counts<'a>(&'a [u32; FILE_ACTIONS.len()]);

impl Serialize for Counts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(FILE_ACTIONS.iter().zip(self.0).filter(|&(_, &count)| count > 0))
    }
}

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("mode", &format_args!("{:04o}", self.0 & 0o7777))?;
        for (name, bit) in PERMISSION_FIELDS {
            map.serialize_entry(name, &(self.0 & bit != 0))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_split_like_dirname_and_basename() {
        for (path, dir, base) in
            [("/a", "/", "a"), ("/a/b", "/a", "b"), ("a", "", "a"), ("/", "/", ""), ("", "", "")]
        {
            assert_eq!(split(path), (dir, base));
            assert_eq!(split_bytes(path.as_bytes()), (dir.as_bytes(), base.as_bytes()));
        }
    }

    #[test]
    fn each_action_bit_has_one_boolean() {
        let bits = ACTION_FIELDS.iter().fold(0u32, |bits, (_, bit)| bits | 1 << bit);
        assert_eq!(bits.count_ones() as usize, FILE_ACTIONS.len());
    }
}
