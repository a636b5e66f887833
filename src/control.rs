//! The status socket: one line asks, one JSON document answers.
//!
//! `status` and `query PID`. A Unix socket with mode 0600: only root talks to the daemon.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::doorbell::Stop;

/// Longest question; longest that a client may dawdle.
const QUESTION_MAX: u64 = 256;
const PATIENCE: Duration = Duration::from_secs(2);

/// Answers questions in a thread of its own; removes the socket at the end.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    stop: Stop,
    thread: JoinHandle<()>,
}

impl Control {
    /// Binds the socket. One that nobody listens at any more is replaced.
    pub fn bind(path: &Path) -> Result<UnixListener> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        if let Ok(there) = fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                bail!(
                    "{} is there and no socket: set run-time.socket to another path",
                    path.display()
                );
            }
            if UnixStream::connect(path).is_ok() {
                bail!(
                    "another raqib answers at {}: stop it, or set run-time.socket to another path",
                    path.display()
                );
            }
            fs::remove_file(path).with_context(|| format!("cannot replace {}", path.display()))?;
        }
        let listener = UnixListener::bind(path)
            .with_context(|| format!("cannot listen at {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    pub fn start(
        path: &Path,
        listener: UnixListener,
        answer: impl Fn(&str) -> Value + Send + 'static,
    ) -> Result<Self> {
        let stop = Stop::new()?;
        let until = stop.share()?;
        let thread = std::thread::Builder::new()
            .name("raqib-control".into())
            .spawn(move || {
                while until.wait(listener.as_raw_fd()) {
                    if let Ok((stream, _)) = listener.accept() {
                        // A client that goes away is its own business.
                        let _ = serve(stream, &answer);
                    }
                }
            })
            .context("cannot start the control thread")?;
        Ok(Self { path: path.to_owned(), stop, thread })
    }

    pub fn finish(self) -> Result<()> {
        self.stop.now();
        let joined = self.thread.join();
        let _ = fs::remove_file(&self.path);
        if joined.is_err() {
            bail!("the control thread panicked");
        }
        Ok(())
    }
}

fn serve(stream: UnixStream, answer: impl Fn(&str) -> Value) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut question = String::new();
    BufReader::new(&stream).take(QUESTION_MAX).read_line(&mut question)?;
    let mut text = serde_json::to_vec(&answer(question.trim()))?;
    text.push(b'\n');
    (&stream).write_all(&text)?;
    Ok(())
}

/// Asks a running daemon.
pub fn ask(path: &Path, question: &str) -> Result<Value> {
    let mut stream = UnixStream::connect(path).with_context(|| {
        format!("no raqib answers at {} (is it running, and are you root?)", path.display())
    })?;
    writeln!(stream, "{question}")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    serde_json::from_str(&text).context("the daemon's answer is no JSON")
}
