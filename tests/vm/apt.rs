//! Kernels and busybox from Debian's archive, by apt from roots of its own: the machine's package
//! lists stay as they are, and nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};

use crate::Series;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// How old an answer of the mirror may be.
const FRESH: Duration = Duration::from_secs(24 * 3600);
/// Seconds for each of apt's commands: a mirror that trickles is none.
const PATIENCE: &str = "180";
/// Of coreutils, which apt's distributions all have.
const LIMITER: &str = "timeout";

/// Why nothing can be fetched on this machine, if so.
pub fn cannot_fetch() -> Option<String> {
    for program in ["apt-get", "apt-cache", "dpkg-deb"] {
        if Command::new(program).arg("--version").output().is_err() {
            return Some(format!("no {program}, which fetches the kernels"));
        }
    }
    (!Path::new(KEYRING).exists()).then(|| format!("no {KEYRING}: kernels could not be verified"))
}

/// `RAQIB_VM_CACHE`, or a folder among the user's caches.
pub fn cache() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("RAQIB_VM_CACHE") {
        return Ok(folder.into());
    }
    let home = std::env::var_os("HOME").context("neither RAQIB_VM_CACHE nor HOME is set")?;
    Ok(Path::new(&home).join(".cache/raqib-vm"))
}

/// A folder with `vmlinuz` and the modules' tree, `modules`, of the newest kernel of the series.
///
/// # Errors
/// It is neither in the cache nor to be had from the mirror.
pub fn kernel(cache: &Path, series: &Series) -> Result<PathBuf> {
    let source = Source { suite: series.suite, archive: series.archive };
    // The meta package of a suite says what is newest. Older names vanish from the mirror.
    let wanted = |package: &str| {
        ["linux-image-", "linux-binary-", "linux-modules-"].iter().any(|prefix| {
            let rest = package.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
    };
    source.fetch(cache, series.name, "linux-image-cloud-amd64", &wanted, &|from, to| {
        let image = find(from, &|path| name(path).starts_with("vmlinuz"));
        fs::rename(image.context("no kernel in the packages")?, to.join("vmlinuz"))?;
        let modules = find(from, &|path| name(path) == "kernel" && path.is_dir());
        fs::rename(modules.context("no modules in the packages")?, to.join("modules"))?;
        Ok(())
    })
}

/// A folder with `busybox`, static.
///
/// # Errors
/// As of [`kernel`].
pub fn busybox(cache: &Path) -> Result<PathBuf> {
    let source = Source { suite: "bookworm", archive: "debian" };
    let wanted = |package: &str| package == "busybox-static";
    source.fetch(cache, "busybox", "busybox-static", &wanted, &|from, to| {
        let busybox = find(from, &|path| name(path) == "busybox" && path.is_file());
        fs::rename(busybox.context("no busybox in its package")?, to.join("busybox"))?;
        Ok(())
    })
}

struct Source {
    suite: &'static str,
    archive: &'static str,
}

impl Source {
    /// The folder `name` of the cache, renewed if it is old and the mirror has something else.
    fn fetch(
        &self,
        cache: &Path,
        name: &str,
        meta: &str,
        wanted: &dyn Fn(&str) -> bool,
        take: &dyn Fn(&Path, &Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let folder = cache.join(name);
        // Written last, and again at each look: its age is that of the mirror's answer.
        let stamp = folder.join("packages");
        let asked = fs::metadata(&stamp).and_then(|found| found.modified()).ok();
        let fresh = |at| SystemTime::now().duration_since(at).is_ok_and(|age| age < FRESH);
        if asked.is_some_and(fresh) {
            return Ok(folder);
        }
        match self.renew(cache, &folder, meta, wanted, take) {
            Err(error) if asked.is_some() => {
                println!(
                    "test-vm: {name}: the mirror does not answer, what is cached is taken: {error:#}"
                );
                Ok(folder)
            }
            renewed => renewed.map(|()| folder),
        }
    }

    fn renew(
        &self,
        cache: &Path,
        folder: &Path,
        meta: &str,
        wanted: &dyn Fn(&str) -> bool,
        take: &dyn Fn(&Path, &Path) -> Result<()>,
    ) -> Result<()> {
        let root = self.root(cache)?;
        let listed =
            run(root.command("apt-cache").args(["depends", "--recurse", "--important", meta]))?;
        let mut packages: Vec<&str> = listed.lines().filter(|line| wanted(line)).collect();
        packages.sort_unstable();
        packages.dedup();
        ensure!(!packages.is_empty(), "{meta} of {} depends on no kernel", self.suite);
        // The version too: a package is rebuilt under its name.
        let versions = run(root.command("apt-cache").arg("show").args(&packages))?;
        let mut text = packages.join("\n");
        for line in versions.lines().filter(|line| line.starts_with("Version: ")) {
            text.push('\n');
            text.push_str(line);
        }
        let stamp = folder.join("packages");
        if fs::read_to_string(&stamp).is_ok_and(|before| before == text) {
            return Ok(fs::write(stamp, text)?);
        }
        let new = tempfile::tempdir_in(cache)?;
        let (debs, files) = (new.path().join("debs"), new.path().join("files"));
        fs::create_dir(&debs)?;
        run(root.command("apt-get").args(["-qq", "download"]).args(&packages).current_dir(&debs))?;
        for deb in debs.read_dir()? {
            run(Command::new("dpkg-deb").arg("-x").arg(deb?.path()).arg(&files))?;
        }
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder)?;
        take(&files, folder)?;
        fs::write(stamp, text)?;
        Ok(())
    }

    /// An apt that knows this suite and nothing of the machine.
    fn root(&self, cache: &Path) -> Result<Root> {
        let at = cache.join("apt").join(self.suite);
        for folder in ["lists/partial", "archives/partial", "etc"] {
            fs::create_dir_all(at.join(folder))?;
        }
        let mirror = std::env::var("RAQIB_VM_MIRROR");
        let mirror = mirror.as_deref().unwrap_or("http://deb.debian.org");
        // A suite that moves says when its lists expire; a clock that is ahead would refuse it.
        let source = format!(
            "deb [signed-by={KEYRING} check-valid-until=no] {mirror}/{} {} main\n",
            self.archive, self.suite
        );
        fs::write(at.join("sources.list"), source)?;
        fs::write(at.join("status"), "")?;
        let configuration = at.join("apt.conf");
        let shown = at.display();
        let text = format!(
            "Dir::State::lists \"{shown}/lists\";\nDir::State::status \"{shown}/status\";\n\
             Dir::Cache \"{shown}\";\nDir::Etc \"{shown}/etc\";\n\
             Dir::Etc::sourcelist \"{shown}/sources.list\";\n\
             Dir::Etc::sourceparts \"/dev/null\";\nDir::Etc::parts \"/dev/null\";\n\
             Dir::Etc::preferences \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
             APT::Architecture \"amd64\";\nAPT::Architectures \"amd64\";\n\
             APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\nAcquire::Retries \"2\";\n\
             Acquire::http::Timeout \"20\";\n"
        );
        fs::write(&configuration, text)?;
        let root = Root { configuration };
        run(root.command("apt-get").args(["-qq", "update", "--error-on=any"]))?;
        Ok(root)
    }
}

struct Root {
    configuration: PathBuf,
}

impl Root {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(LIMITER);
        command.args([PATIENCE, program]).env("APT_CONFIG", &self.configuration);
        command
    }
}

/// What it printed; what it complained of, if it failed.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        // The first complaint; what follows is of no use to who reads one line.
        let said = said.lines().find(|line| line.starts_with("E: ")).unwrap_or(said.trim());
        let limited = command.get_args().nth(1).filter(|_| command.get_program() == LIMITER);
        let name = limited.unwrap_or(command.get_program()).display();
        // What the limiter ends with when it has ended the other.
        let slow = if output.status.code() == Some(124) { "took too long. " } else { "" };
        bail!("{name}: {slow}{said}");
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The first below `folder` that fits, by breadth.
pub fn find(folder: &Path, fits: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> =
        folder.read_dir().ok()?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    if let Some(at) = entries.iter().position(|path| fits(path)) {
        return Some(entries.swap_remove(at));
    }
    entries
        .iter()
        .filter(|path| path.is_dir() && !path.is_symlink())
        .find_map(|path| find(path, fits))
}
