//! The initramfs: an archive in cpio's "newc" form, which the kernel unpacks as its root.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::apt::find;
use crate::guest;

/// The distribution's own programs that tests copy or run: the same ones as on this machine, with
/// what they are linked to. The rest of /bin is busybox.
const PROGRAMS: [&str; 5] = ["sh", "env", "true", "cat", "sleep"];

/// Makes a file system whose files can share blocks, for the facts about that.
const MKFS: &str = "/usr/sbin/mkfs.btrfs";

/// Modules that distributions leave out of their kernels and that the facts need: loop devices,
/// device mapper, layered file systems and one that shares blocks, interpreters by magic number,
/// virtual interfaces.
const MODULES: [&str; 7] = ["loop", "dm-mod", "overlay", "btrfs", "binfmt_misc", "veth", "tun"];

const DIRECTORY: u32 = 0o40_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

#[derive(Clone, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    folders: BTreeSet<PathBuf>,
}

impl Archive {
    /// `path` is absolute, as in the guest; the directories above it are made.
    fn add(&mut self, path: &Path, mode: u32, content: &[u8]) -> Result<()> {
        if let Some(parent) = path.parent().filter(|parent| parent.parent().is_some())
            && self.folders.insert(parent.to_owned())
        {
            self.add(parent, DIRECTORY, &[])?;
        }
        let name = path.to_str().context("a name that is no text")?.trim_start_matches('/');
        self.entry(name, mode, content)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len()).context("a file over 4 GiB")?;
        let length = u32::try_from(name.len() + 1)?;
        // Magic, inode, mode, uid, gid, links, mtime, size, device, device of a device, name, sum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, length, 0];
        self.bytes.extend(b"070701");
        self.bytes.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn copy(&mut self, from: &Path, to: impl AsRef<Path>) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.add(to.as_ref(), PROGRAM, &content)
    }

    /// All but what belongs to one kernel. `tests` by name and binary.
    ///
    /// # Errors
    /// A file is missing, or a program of this machine.
    pub fn of(
        busybox: &Path,
        daemon: &Path,
        tiny: &Path,
        tests: &[(String, PathBuf)],
    ) -> Result<Self> {
        let mut archive = Self::default();
        archive.copy(&std::env::current_exe()?, "/init")?;
        archive.copy(&busybox.join("busybox"), "/bin/busybox")?;
        archive.copy(daemon, "/bin/raqib")?;
        archive.copy(tiny, "/bin/tiny")?;
        for (name, binary) in tests {
            archive.copy(binary, Path::new(guest::TESTS).join(name))?;
        }
        let mut libraries = BTreeSet::new();
        let programs = PROGRAMS.iter().map(|program| Path::new("/bin").join(program));
        // Without it, those facts are not to be had there.
        for path in programs.chain(Some(MKFS.into()).filter(|path: &PathBuf| path.exists())) {
            archive.copy(&path, &path)?;
            libraries.extend(needs(&path)?);
        }
        for library in &libraries {
            archive.copy(library, library)?;
        }
        for (path, text) in [
            ("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"),
            ("/etc/shadow", "root:*:20000:0:99999:7:::\n"),
            ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
            ("/etc/hostname", "raqib-vm\n"),
            ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
        ] {
            archive.add(Path::new(path), FILE, text.as_bytes())?;
        }
        archive.entry("root", DIRECTORY, &[])?;
        Ok(archive)
    }

    /// With the modules of the kernel whose folder is given; numbered as they have to be loaded.
    ///
    /// # Errors
    /// A module cannot be read or unpacked. One that the kernel has not is built in.
    pub fn with_modules(mut self, kernel: &Path) -> Result<Vec<u8>> {
        let tree = kernel.join("modules");
        let mut order: Vec<(String, Vec<u8>)> = Vec::new();
        for module in MODULES {
            collect(&tree, module, &mut order)?;
        }
        let modules = Path::new(guest::MODULES);
        for (at, (name, content)) in order.iter().enumerate() {
            self.add(&modules.join(format!("{at:02}-{name}.ko")), FILE, content)?;
        }
        if let Some(content) = module(&tree, guest::SPARE_MODULE)? {
            self.add(&guest::spare_module(), FILE, &content)?;
        }
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }
}

/// Absolute paths of the libraries and the loader of a program of this machine.
fn needs(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot run ldd")?;
    ensure!(output.status.success(), "ldd does not know {}", program.display());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// The module after those that it needs, each once.
fn collect(tree: &Path, name: &str, order: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    if order.iter().any(|(known, _)| known == name) {
        return Ok(());
    }
    let Some(content) = module(tree, name)? else { return Ok(()) };
    for needed in depends(&content) {
        collect(tree, &needed, order)?;
    }
    order.push((name.to_owned(), content));
    Ok(())
}

/// The module's content, unpacked.
fn module(tree: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    let plain = |name: &str| name.replace('-', "_");
    let wanted = plain(name) + ".ko";
    let found = find(tree, &|path| {
        let file = plain(&path.file_name().unwrap_or_default().to_string_lossy());
        file == wanted || file.strip_prefix(&wanted).is_some_and(|rest| rest.starts_with('.'))
    });
    let Some(path) = found else { return Ok(None) };
    let unpack = match path.extension().and_then(|end| end.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return Ok(Some(fs::read(path)?)),
    };
    let output = Command::new(unpack).arg("-dc").arg(&path).output();
    let output = output.with_context(|| format!("cannot run {unpack}"))?;
    ensure!(output.status.success(), "{unpack} cannot unpack {}", path.display());
    Ok(Some(output.stdout))
}

/// What the module says that it needs.
fn depends(content: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(at) = content.windows(key.len()).position(|bytes| bytes == key) else {
        return Vec::new();
    };
    let list = content[at + key.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let list = String::from_utf8_lossy(list).into_owned();
    list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
