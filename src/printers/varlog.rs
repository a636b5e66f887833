//! A file of JSON lines, rotated by size.
//!
//! One `write` for each alert and no buffer: what was printed is in the page cache when the
//! daemon is killed. It is not yet on the disk when the machine stops, until [`Printer::flush`].

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::alert::Alert;
use crate::printers::{Printer, Settings, TryAgain, recycle};

pub fn build(settings: &Settings) -> Result<Box<dyn Printer>> {
    Ok(Box::new(Varlog::open(settings)?))
}

struct Varlog {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    one_line: bool,
    file: File,
    /// The file may end within a line: it gets a newline before the next one.
    torn: bool,
    /// The last rotation failed, which was reported.
    rotation_failed: bool,
    line: Vec<u8>,
}

impl Varlog {
    fn open(settings: &Settings) -> Result<Self> {
        let path = settings.varlog_file.clone();
        let (file, torn) = open(&path)?;
        Ok(Self {
            path,
            max_bytes: settings.varlog_max_bytes,
            keep: settings.varlog_keep,
            one_line: settings.varlog_raw,
            file,
            torn,
            rotation_failed: false,
            line: Vec::new(),
        })
    }

    fn use_new_file(&mut self) -> Result<()> {
        (self.file, self.torn) = open(&self.path)?;
        Ok(())
    }

    /// Makes sure that the file is the one to append to, and says how long it is.
    fn ready(&mut self) -> Result<u64> {
        let mut file = self.file.metadata()?;
        if file.nlink() == 0 {
            // Somebody removed the file: what is written to it now nobody will ever read.
            self.use_new_file()?;
            file = self.file.metadata()?;
        }
        let size = file.len();
        let full = size.saturating_add(self.line.len() as u64) > self.max_bytes;
        if self.max_bytes == 0 || size == 0 || !full {
            return Ok(size);
        }
        // Failing to rotate is no reason not to write: the file grows on, the next line tries
        // again, and only the first failure is told.
        let rotated = rotate(&self.path, self.keep).and_then(|()| self.use_new_file());
        if let Err(error) = &rotated
            && !self.rotation_failed
        {
            log::warn!("varlog: not rotated, the file grows on: {error:#}");
        }
        self.rotation_failed = rotated.is_err();
        Ok(self.file.metadata()?.len())
    }

    /// Writes the line or leaves the file as it was.
    fn append(&mut self, size: u64) -> std::io::Result<()> {
        let mut rest = &self.line[..];
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return self.undo(size, rest.len(), ErrorKind::WriteZero.into()),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.undo(size, rest.len(), error),
            }
        }
        self.torn = false;
        Ok(())
    }

    /// Takes the first part of a line back, where nobody else has written since; else the next
    /// line starts with a newline.
    fn undo(&mut self, size: u64, rest: usize, error: std::io::Error) -> std::io::Result<()> {
        let written = (self.line.len() - rest) as u64;
        if written > 0 {
            let alone = self.file.metadata().is_ok_and(|file| file.len() == size + written);
            let undone = alone && self.file.set_len(size).is_ok();
            self.torn |= !undone;
        }
        Err(error)
    }
}

impl Printer for Varlog {
    fn print(&mut self, alert: &Alert) -> Result<()> {
        recycle(&mut self.line);
        match self.one_line {
            true => alert.write_line(&mut self.line)?,
            false => alert.write_indented(&mut self.line)?,
        }
        let size = self.ready().context(TryAgain)?;
        if self.torn {
            self.line.insert(0, b'\n');
        }
        let written = self.append(size);
        written.with_context(|| format!("writing to {}", self.path.display())).context(TryAgain)
    }

    fn flush(&mut self) -> Result<()> {
        self.file.sync_data().with_context(|| format!("writing out {}", self.path.display()))
    }

    fn reopen(&mut self) -> Result<()> {
        // The old file is complete in the kernel; a failed open leaves us with it.
        self.use_new_file()
    }
}

/// Opens for appending, and says whether the last line lacks its end (a crash, a full disk).
///
/// 0600, as alerts hold what only root may read. `O_NOFOLLOW`: in a directory that others can
/// write to, a symbolic link would have root append to a file of their choice. `O_NONBLOCK`: a
/// FIFO in its place must not stop the start; it has no effect on a regular file.
fn open(path: &Path) -> Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let opening = || format!("opening {} for alerts", path.display());
    let mut file = options.open(path).with_context(opening)?;
    let size = match file.metadata().with_context(opening)? {
        metadata if metadata.is_file() => metadata.len(),
        _ => bail!("{} is not a regular file", path.display()),
    };
    let torn = size > 0 && last_byte(&mut file).with_context(opening)? != b'\n';
    Ok((file, torn))
}

fn last_byte(file: &mut File) -> std::io::Result<u8> {
    let mut byte = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// `FILE.1` to `FILE.2` and so on, oldest first, then `FILE` to `FILE.1`. The last one is
/// replaced by the rename; with none to keep, the file itself goes. Only what is before the first
/// gap moves, so that a large `keep` costs nothing.
fn rotate(path: &Path, keep: u32) -> Result<()> {
    if keep == 0 {
        return match fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done.with_context(|| format!("removing {}", path.display())),
        };
    }
    let gap = (1..keep).find(|&number| numbered(path, number).symlink_metadata().is_err());
    for number in (1..gap.unwrap_or(keep)).rev() {
        rename(&numbered(path, number), &numbered(path, number + 1))?;
    }
    rename(path, &numbered(path, 1))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done.with_context(|| format!("renaming {}", from.display())),
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}
