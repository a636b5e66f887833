//! The cgroups that were there before us: each hierarchy's directories, by the kernel's numbers.

use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::state::World;
use crate::state::containers::Made;

/// `HIERARCHY_SHIFT` of bpf/cgroup.h.
const HIERARCHY_SHIFT: u32 = 48;
/// Levels of a hierarchy.
const DEPTH: usize = 64;

/// Tells every cgroup of every hierarchy that is mounted whole. Those of others stay unknown
/// until they are made anew.
pub fn prime(world: &World) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for (mount, hierarchy) in hierarchies(&mounts, &own) {
        let Ok(root) = fs::metadata(&mount) else { continue };
        let number = |inode: u64| inode | hierarchy << HIERARCHY_SHIFT;
        tell(world, number(root.ino()), 0, "/");
        walk(world, &mount, &mount, number(root.ino()), &number, 0);
    }
}

fn walk(
    world: &World,
    mount: &Path,
    folder: &Path,
    parent: u64,
    number: &impl Fn(u64) -> u64,
    depth: usize,
) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let (id, path) = (number(entry.ino()), entry.path());
        let below = path.strip_prefix(mount).unwrap_or(&path);
        tell(world, id, parent, &format!("/{}", below.display()));
        if depth < DEPTH {
            walk(world, mount, &path, id, number, depth + 1);
        }
    }
}

fn tell(world: &World, id: u64, parent: u64, path: &str) {
    if let Some(container) =
        world.containers.made(Made { id, parent, path, by_maker: None, bundle: None })
    {
        // It has been running: who enters it from now on does not start it.
        container.starts();
    }
}

/// Mount points with their hierarchy's number: 0 for v2, else that of their controllers.
fn hierarchies(mountinfo: &str, own: &str) -> Vec<(PathBuf, u64)> {
    let number = |options: &str| {
        own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (number, controllers) = (fields.next()?, fields.next()?);
            let all = controllers.split(',').all(|one| options.split(',').any(|had| had == one));
            (all && !controllers.is_empty()).then(|| number.parse().ok())?
        })
    };
    let mounts = mountinfo.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = left.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let mut source = right.split(' ');
        let (kind, options) = (source.next()?, source.nth(1)?);
        let number = match kind {
            "cgroup2" => 0,
            "cgroup" => number(options)?,
            _ => return None,
        };
        (root == "/").then(|| (PathBuf::from(point), number))
    });
    mounts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_numbered_by_their_controllers() {
        let mounts = "40 30 0:36 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      41 30 0:37 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                      42 30 0:38 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      43 30 0:38 /docker/x /mnt rw - cgroup cgroup rw,name=systemd\n\
                      44 30 0:39 / /proc rw - proc proc rw\n";
        let own = "9:name=systemd:/\n3:cpu,cpuacct:/\n0::/\n";
        let found = hierarchies(mounts, own);
        let expected = [("unified", 0), ("cpu", 3), ("systemd", 9)];
        let expected = expected.map(|(name, id)| (Path::new("/sys/fs/cgroup").join(name), id));
        assert_eq!(found, expected);
    }
}
