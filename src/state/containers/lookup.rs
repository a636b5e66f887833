//! The thread that reads the runtimes' files: nobody else waits for a disk.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use super::cgroup_path::{Found, Runtime};
use super::{Container, Details, files};
use crate::event::TaskKey;
use crate::plugins::execution::split;
use crate::state::World;
use crate::text::Text;

/// One container whose name is wanted.
#[derive(Debug)]
pub struct Ask {
    pub container: Arc<Container>,
    pub bundle: Option<PathBuf>,
}

/// New containers that wait for the files of others.
const QUEUE: usize = 4096;
/// A runtime may write its file a little after it makes the cgroup: milliseconds between tries.
const TRIES: [u64; 7] = [0, 3, 10, 30, 100, 300, 1000];

/// Starts the thread; it ends when the world does.
pub fn start(world: &Arc<World>) -> Result<()> {
    let (asks, inbox) = bounded(QUEUE);
    if world.containers.asks.set(asks).is_err() {
        return Ok(());
    }
    let world = Arc::downgrade(world);
    std::thread::Builder::new()
        .name("raqib-lookup".into())
        .spawn(move || run(&world, &inbox))
        .context("cannot start the thread that reads container files")?;
    Ok(())
}

fn run(world: &Weak<World>, inbox: &Receiver<Ask>) {
    let mut waiting: Vec<(Instant, usize, Ask)> = Vec::new();
    loop {
        let next = waiting.iter().map(|(at, ..)| *at).min();
        let received = match next {
            Some(at) => inbox.recv_deadline(at),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok(ask) => waiting.push((Instant::now(), 0, ask)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let Some(world) = world.upgrade() else { return };
        let now = Instant::now();
        let (due, later) = waiting.into_iter().partition(|(at, ..)| *at <= now);
        waiting = later;
        let due: Vec<(Instant, usize, Ask)> = due;
        for (at, tries, ask) in due {
            waiting.extend(attempt(&world, at, tries, ask));
        }
    }
}

/// Reads the files once; what is to be tried again, and when.
fn attempt(world: &World, at: Instant, tries: usize, ask: Ask) -> Option<(Instant, usize, Ask)> {
    let bundle = ask.bundle.as_deref();
    let found =
        files::details(&ask.container, bundle, &docker_roots(world), &world.containers.unreadable);
    match (found, TRIES.get(tries + 1)) {
        (Some(details), _) => ask.container.set_details(details),
        (None, Some(wait)) => return Some((at + Duration::from_millis(*wait), tries + 1, ask)),
        (None, None) => {
            world.containers.unnamed.fetch_add(1, Relaxed);
            ask.container.set_details(Details::default());
        }
    }
    world.containers.tell();
    None
}

/// Where the dockerds of this host keep their files, as this process reaches it.
fn docker_roots(world: &World) -> Vec<PathBuf> {
    let daemons = world.processes.running(|process| process.cmd() == "dockerd");
    let outside = daemons.iter().filter(|process| process.container().is_none());
    let told = outside.filter_map(|process| {
        let args: Vec<&str> = process.image.args.iter().map(Text::as_str).collect();
        let root = option(&args, &["--data-root", "--graph", "-g"])?;
        // In its own mount namespace, should it have one.
        Some(PathBuf::from(format!("/proc/{}/root{root}", process.pid())))
    });
    told.collect()
}

/// The value of an option, given as one argument or as two.
fn option<'a>(args: &[&'a str], names: &[&str]) -> Option<&'a str> {
    args.iter().enumerate().find_map(|(at, arg)| {
        if names.contains(arg) {
            return args.get(at + 1).copied();
        }
        names.iter().find_map(|name| arg.strip_prefix(name)?.strip_prefix('='))
    })
}

/// What the maker of a cgroup was asked to run: a container whose cgroup may be called anything.
pub fn made_by(
    world: &World,
    maker: TaskKey,
    comm: &str,
    path: &str,
) -> Option<(Found, Option<PathBuf>)> {
    // Only a hint that the command line is worth reading: it costs nothing.
    if !["runc", "crun", "systemd-nspawn"].iter().any(|name| comm.starts_with(name)) {
        return None;
    }
    let known = world.processes.get(maker).filter(|process| process.key == maker);
    let args = match known {
        Some(process) => process.image.args.clone(),
        None => split(&std::fs::read(format!("/proc/{}/cmdline", maker.tgid)).ok()?),
    };
    let args: Vec<&str> = args.iter().map(Text::as_str).collect();
    let cwd = || std::fs::read_link(format!("/proc/{}/cwd", maker.tgid)).unwrap_or_default();
    let (found, bundle) = parse_maker(&args, cwd)?;
    // On the way to the container's cgroup its runtime makes those above it.
    let is_its = match found.runtime {
        Runtime::Nspawn => path.ends_with("/payload"),
        _ => {
            path.rsplit('/').next() == Some(&found.id)
                || bundle.as_deref().and_then(files::cgroup_of).is_some_and(|told| {
                    let told = told.trim_matches('/');
                    !told.is_empty() && path.trim_start_matches('/').ends_with(told)
                })
        }
    };
    // A container's own command line says less than the path of its cgroup does.
    is_its.then_some((found, bundle))
}

fn parse_maker(args: &[&str], cwd: impl Fn() -> PathBuf) -> Option<(Found, Option<PathBuf>)> {
    let program = args.first()?.rsplit('/').next()?;
    let found = |id: &str, runtime| Found { id: id.into(), runtime, pod_uid: None, user: None };
    if program == "systemd-nspawn" {
        let named = option(args, &["-M", "--machine"]);
        let place = option(args, &["-D", "--directory", "-i", "--image"]);
        let base = place.and_then(|place| Path::new(place).file_name()?.to_str());
        return Some((found(named.or(base)?, Runtime::Nspawn), place.map(PathBuf::from)));
    }
    let verb = args.iter().position(|arg| ["create", "run", "restore"].contains(arg))?;
    let runtime = if program.starts_with("crun") { Runtime::Crun } else { Runtime::Runc };
    let id = args.last().filter(|id| args.len() > verb + 1 && !id.starts_with('-'))?;
    let bundle = option(args, &["--bundle", "-b"]).map_or_else(&cwd, |bundle| cwd().join(bundle));
    Some((found(id, runtime), Some(bundle)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_makers_command_line_names_its_container() {
        let parse = |text: &str| {
            let args: Vec<&str> = text.split(' ').collect();
            parse_maker(&args, || "/here".into()).map(|(found, bundle)| (found.id, bundle.unwrap()))
        };
        let shim = "runc --root /run/containerd/runc/default --log /l create --bundle /b/web --pid-file /p web";
        assert_eq!(parse(shim), Some(("web".into(), "/b/web".into())));
        assert_eq!(parse("/usr/sbin/runc run plain"), Some(("plain".into(), "/here".into())));
        assert_eq!(parse("runc run -b sub plain"), Some(("plain".into(), "/here/sub".into())));
        assert_eq!(
            parse("systemd-nspawn -q -D /var/lib/machines/deb sh"),
            Some(("deb".into(), "/var/lib/machines/deb".into()))
        );
        assert_eq!(parse("runc delete plain"), None);
        assert_eq!(parse("runc exec web sh"), None);
    }
}
