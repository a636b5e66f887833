//! A process image in JSON: `process` and each entry of `background.ancestry`.

use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::alert::Host;
use crate::alert::container::{ContainerJson, Known};
use crate::alert::ids::{self, Hash64};
use crate::alert::json::{Hex, HexList, Joined, List, Stamp};
use crate::content::Untold;
use crate::state::process::Content;
use crate::state::{Creds, Image, Process, Stdio, Traits};
use crate::text::Text;

/// When and how a process ended; none while it runs.
pub type End = Option<(SystemTime, i32)>;

#[derive(Serialize)]
pub struct ProcessJson<'a> {
    uuid: Uuid,
    start: Stamp,
    exit: Stamp,
    retcode: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_signal: Option<i32>,
    uid: u32,
    pid: u32,
    ppid: u32,
    comm: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    comm_raw: Option<Hex<'a>>,
    cmd: &'a str,
    #[serde(flatten)]
    image: ImageJson<'a>,
    #[serde(flatten)]
    previous: Option<PreviousJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exec: Option<Stamp>,
    exec_id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    exe_sha256: Option<String>,
    /// Why there is none, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    exe_sha256_missing: Option<&'static str>,
    gid: u32,
    euid: u32,
    egid: u32,
    capabilities: Capabilities,
    /// Left out when never set: 4294967295 reads like a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    loginuid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<u32>,
    cwd: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cwd_raw: Option<Hex<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    tty: &'a str,
    cgroup_id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<ContainerJson<'a>>,
    namespaces: NamespacesJson,
    process_hash: Hash64,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_hash: Option<Hash64>,
    exe_hash: Hash64,
    args_hash: Hash64,
}

#[derive(Serialize)]
struct ImageJson<'a> {
    exe: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exe_raw: Option<Hex<'a>>,
    args: Joined<'a>,
    args_list: List<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args_raw: Option<HexList<'a>>,
    args_length: u32,
    args_truncated: bool,
    #[serde(flatten)]
    script: Option<ScriptJson<'a>>,
    #[serde(flatten)]
    interpreter: Option<InterpreterJson<'a>>,
    /// Left out where it is the same as `exe`, or the script's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pathname: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pathname_raw: Option<Hex<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loader_target: Option<&'a str>,
    #[serde(flatten)]
    file: Option<ExeFileJson>,
    #[serde(skip_serializing_if = "<[Stdio]>::is_empty")]
    stdio_sockets: &'a [Stdio],
    #[serde(flatten)]
    traits: Traits,
}

/// The executable's own facts, where they are known.
#[derive(Serialize)]
struct ExeFileJson {
    exe_device: String,
    exe_inode: u64,
    exe_size: u64,
    exe_links: u32,
    exe_mtime: Stamp,
    exe_ctime: Stamp,
    exe_written: &'static str,
}

impl ExeFileJson {
    fn new(image: &Image) -> Option<Self> {
        let at = |ns: u64| Stamp(Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(ns)));
        (image.inode != 0).then(|| Self {
            exe_device: format!("{}:{}", libc::major(image.dev), libc::minor(image.dev)),
            exe_inode: image.inode,
            exe_size: image.size,
            exe_links: image.links,
            exe_mtime: at(image.mtime_ns),
            exe_ctime: at(image.ctime_ns),
            exe_written: image.written.name(),
        })
    }
}

#[derive(Serialize)]
struct ScriptJson<'a> {
    script: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    script_raw: Option<Hex<'a>>,
}

#[derive(Serialize)]
struct InterpreterJson<'a> {
    interpreter: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    interpreter_raw: Option<Hex<'a>>,
}

#[derive(Serialize)]
struct PreviousJson<'a> {
    prev_exe: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_exe_raw: Option<Hex<'a>>,
    prev_args: Joined<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_args_raw: Option<HexList<'a>>,
}

/// Bit n is capability n; hex as in /proc/PID/status.
#[derive(Serialize)]
struct Capabilities {
    effective: CapSet,
    permitted: CapSet,
    inheritable: CapSet,
}

struct CapSet(u64);

#[derive(Serialize)]
struct NamespacesJson {
    mnt_ns: u32,
    pid_ns: u32,
    uts_ns: u32,
    ipc_ns: u32,
    net_ns: u32,
    cgroup_ns: u32,
    user_ns: u32,
}

impl Serialize for CapSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

impl<'a> ProcessJson<'a> {
    /// `end` is what was known when the alert was made, so that each printer writes the same.
    pub fn new(
        process: &'a Process,
        end: End,
        content: Option<Content>,
        container: Option<&'a Known>,
        host: &Host,
    ) -> Self {
        let (retcode, exit_signal) = status(end);
        let image = &*process.image;
        let creds = process.creds;
        let args: Vec<&[u8]> = image.args.iter().map(Text::bytes).collect();
        Self {
            uuid: ids::process_uuid(host, process.key),
            start: Stamp(process.start),
            exit: Stamp(end.map(|(at, _)| at)),
            retcode,
            exit_signal,
            uid: creds.uid,
            pid: process.pid(),
            ppid: process.ppid,
            comm: process.comm.as_str(),
            comm_raw: Hex::raw(&process.comm),
            cmd: process.cmd(),
            image: ImageJson::new(image),
            previous: process.previous.as_deref().map(PreviousJson::new),
            exec: process.exec.map(|at| Stamp(Some(at))),
            exec_id: process.key.exec_id,
            exe_sha256: content.and_then(Result::ok).map(|sum| sum.to_string()),
            exe_sha256_missing: content.and_then(Result::err).map(Untold::name),
            gid: creds.gid,
            euid: creds.euid,
            egid: creds.egid,
            capabilities: Capabilities::new(creds),
            loginuid: set(creds.loginuid),
            session: set(creds.sessionid),
            cwd: process.cwd.as_str(),
            cwd_raw: Hex::raw(&process.cwd),
            tty: process.tty.as_str(),
            cgroup_id: process.cgroup,
            container: container.map(ContainerJson::new),
            namespaces: NamespacesJson::new(process),
            process_hash: ids::process_hash(host, process.key),
            parent_hash: process.parent.as_ref().map(|up| ids::process_hash(host, up.key)),
            exe_hash: ids::bytes_hash("exe", &[image.exe.bytes()]),
            args_hash: ids::bytes_hash("args", &args),
        }
    }
}

/// Exit code, and the signal that ended it, of a wait status.
fn status(end: End) -> (i32, Option<i32>) {
    let Some((_, status)) = end else { return (0, None) };
    let signal = status & 0x7f;
    (status >> 8 & 0xff, (signal != 0).then_some(signal))
}

/// The audit ids are `u32::MAX` until somebody logs in.
fn set(id: u32) -> Option<u32> {
    (id != u32::MAX).then_some(id)
}

impl<'a> ImageJson<'a> {
    fn new(image: &'a Image) -> Self {
        let pathname = Some(&image.pathname)
            .filter(|name| image.script.is_none() && !name.is_empty() && **name != image.exe);
        Self {
            exe: image.exe.as_str(),
            exe_raw: Hex::raw(&image.exe),
            args: Joined(&image.args),
            args_list: List(&image.args),
            args_raw: HexList::raw(&image.args),
            args_length: image.args_length,
            args_truncated: image.args_truncated,
            script: image
                .script
                .as_ref()
                .map(|script| ScriptJson { script: script.as_str(), script_raw: Hex::raw(script) }),
            interpreter: image.interpreter.as_ref().map(|program| InterpreterJson {
                interpreter: program.as_str(),
                interpreter_raw: Hex::raw(program),
            }),
            pathname: pathname.map(Text::as_str),
            pathname_raw: pathname.and_then(Hex::raw),
            loader_target: image.loader_target(),
            file: ExeFileJson::new(image),
            stdio_sockets: &image.stdio,
            traits: image.traits,
        }
    }
}

impl<'a> PreviousJson<'a> {
    fn new(image: &'a Image) -> Self {
        Self {
            prev_exe: image.exe.as_str(),
            prev_exe_raw: Hex::raw(&image.exe),
            prev_args: Joined(&image.args),
            prev_args_raw: HexList::raw(&image.args),
        }
    }
}

impl Capabilities {
    fn new(creds: Creds) -> Self {
        Self {
            effective: CapSet(creds.cap_effective),
            permitted: CapSet(creds.cap_permitted),
            inheritable: CapSet(creds.cap_inheritable),
        }
    }
}

impl NamespacesJson {
    fn new(process: &Process) -> Self {
        let ns = process.namespaces;
        Self {
            mnt_ns: ns.mnt,
            pid_ns: ns.pid,
            uts_ns: ns.uts,
            ipc_ns: ns.ipc,
            net_ns: ns.net,
            cgroup_ns: ns.cgroup,
            user_ns: ns.user,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_status_is_code_and_signal() {
        assert_eq!(status(None), (0, None));
        assert_eq!(status(Some((SystemTime::UNIX_EPOCH, 3 << 8))), (3, None));
        assert_eq!(status(Some((SystemTime::UNIX_EPOCH, 0x80 | 11))), (0, Some(11)));
    }
}
