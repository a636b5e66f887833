//! Whose the open sockets are, where the kernel cannot tell by iterator (before Linux 5.11, whose
//! file iterator knows no socket storage): each socket's descriptor is borrowed from its process,
//! asked, and named as the key of the storage.
//!
//! What is missed: a socket that is handed over in a message at that moment, and one of a process
//! that begins or ends meanwhile (which its own `sock_create` tells, if it began after the hooks).

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use anyhow::Result;
use libbpf_rs::{MapCore, MapFlags};

use super::load::Kernel;
use super::types::{sock_owner, task_key};
use crate::event::TaskKey;
use crate::state::World;

/// Gives open sockets their owners; returns how many there were. A process that ends while it is
/// looked at is passed over: its sockets end with it, or have another owner too.
pub fn sockets(kernel: &Kernel, world: &World) -> Result<usize> {
    let owners = &kernel.skel.maps.owners;
    let mut given = 0;
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let known = world.processes.by_pid(pid);
        let Some(process) = known.last().filter(|_| pid != std::process::id()) else { continue };
        for socket in inet_sockets(pid) {
            let owner = owner(&socket, process.key);
            // SAFETY: integers only, without padding (asserted in bpf/types.h).
            let value = unsafe { plain::as_bytes(&owner) };
            let key = socket.as_raw_fd().to_ne_bytes();
            // What has an owner already keeps it: shared sockets belong to whoever came first.
            match owners.update(&key, value, MapFlags::NO_EXIST) {
                Ok(()) => given += 1,
                Err(error) => log::debug!("a socket of process {pid} keeps its owner: {error}"),
            }
        }
    }
    Ok(given)
}

/// The IPv4 and IPv6 sockets of a process, as descriptors of our own.
fn inet_sockets(pid: u32) -> Vec<OwnedFd> {
    let is_socket = |link: &fs::DirEntry| {
        let target = fs::read_link(link.path()).unwrap_or_default();
        target.as_os_str().as_encoded_bytes().starts_with(b"socket:")
    };
    let numbers: Vec<i32> = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(is_socket)
        .filter_map(|link| link.file_name().to_str()?.parse().ok())
        .collect();
    if numbers.is_empty() {
        return Vec::new();
    }
    // SAFETY: two integers, no pointers.
    let Some(process) = own(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }) else {
        return Vec::new();
    };
    let borrow = |number: i32| {
        // SAFETY: three integers, no pointers.
        own(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
    };
    let inet = |socket: &OwnedFd| {
        let domain: i32 = option(socket, libc::SO_DOMAIN).unwrap_or(libc::AF_UNIX);
        domain == libc::AF_INET || domain == libc::AF_INET6
    };
    numbers.into_iter().filter_map(borrow).filter(inet).collect()
}

/// The descriptor that a system call returned.
fn own(returned: libc::c_long) -> Option<OwnedFd> {
    let number = i32::try_from(returned).ok().filter(|number| *number >= 0)?;
    // SAFETY: the kernel has just made it for us, and nobody else knows it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

fn option<T: Copy + Default>(socket: &OwnedFd, name: libc::c_int) -> io::Result<T> {
    let mut value = T::default();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which `value` has; T is an integer.
    let returned = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if returned == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// `SIOCGSKNS`: a socket's network namespace, which may be another than its holder's.
const SOCKET_NETNS: libc::c_ulong = 0x894C;

fn owner(socket: &OwnedFd, task: TaskKey) -> sock_owner {
    // SAFETY: this request takes no argument.
    let namespace = own(unsafe { libc::ioctl(socket.as_raw_fd(), SOCKET_NETNS) }.into());
    let netns = namespace.and_then(|fd| fs::File::from(fd).metadata().ok()).map(|it| it.ino());
    sock_owner {
        task: task_key { start_ns: task.start_ns, tgid: task.tgid, exec_id: task.exec_id },
        // As the kernel gives it to who asks; a listener's children must not match it.
        cookie: option(socket, libc::SO_COOKIE).unwrap_or_default(),
        netns: netns.unwrap_or_default() as u32,
        ..sock_owner::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_processs_own_sockets_are_found_and_no_others() {
        let _unix = UnixDatagram::unbound().unwrap();
        let before = inet_sockets(std::process::id()).len();
        let _tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let _udp = UdpSocket::bind("[::1]:0").unwrap();
        let found = inet_sockets(std::process::id());
        assert!(found.len() >= before + 2 || !root(), "{} {before}", found.len());
        for socket in &found {
            let owner = owner(socket, TaskKey { start_ns: 1, tgid: 2, exec_id: 3 });
            assert_ne!((owner.cookie, owner.netns), (0, 0));
        }
    }

    fn root() -> bool {
        // SAFETY: geteuid has no preconditions.
        unsafe { libc::geteuid() == 0 }
    }
}
