//! The host that alerts come from.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Facts about this host, read once at start. What cannot be read is empty: an alert with less
/// context is worth more than none.
#[derive(Clone, Debug, Default)]
pub struct Host {
    pub hostname: String,
    /// Of systemd; says which host an alert is from when names repeat.
    pub machine_id: String,
    /// Changes with each boot. Not printed: times since boot that are part of identities repeat
    /// on the next boot, and this keeps them apart.
    pub boot_id: String,
    /// First address that is not of the loopback interface; IPv4 before IPv6.
    pub ip: String,
    /// `PRETTY_NAME` of os-release.
    pub os: String,
    /// As in `uname -m`.
    pub arch: String,
}

impl Host {
    pub fn detect() -> Self {
        let (system, hostname, arch) = uname();
        Self {
            hostname,
            machine_id: first_line(&["/etc/machine-id", "/var/lib/dbus/machine-id"]),
            boot_id: first_line(&["/proc/sys/kernel/random/boot_id"]),
            ip: first_address().map(|ip| ip.to_string()).unwrap_or_default(),
            os: os_name(&["/etc/os-release", "/usr/lib/os-release"]).unwrap_or(system),
            arch,
        }
    }
}

/// The first line of the first of these files that has one.
fn first_line(paths: &[&str]) -> String {
    let lines = paths.iter().filter_map(|path| fs::read_to_string(path).ok());
    let mut lines = lines.map(|text| text.lines().next().unwrap_or_default().trim().to_owned());
    lines.find(|line| !line.is_empty()).unwrap_or_default()
}

fn os_name(paths: &[&str]) -> Option<String> {
    let text = paths.iter().find_map(|path| fs::read_to_string(path).ok())?;
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim().trim_matches(['"', '\'']).to_owned())
}

/// System name with release, node name, machine.
fn uname() -> (String, String, String) {
    // SAFETY: utsname is arrays of bytes, for which zeros are a value; the call fills it.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole utsname that lives through the call.
    if unsafe { libc::uname(&mut names) } != 0 {
        return Default::default();
    }
    let text = |field: &[libc::c_char]| {
        let bytes: Vec<u8> = field.iter().map(|&byte| byte as u8).take_while(|&b| b != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let system = format!("{} {}", text(&names.sysname), text(&names.release));
    (system, text(&names.nodename), text(&names.machine))
}

/// From the list of interfaces: no socket is opened and no packet sent, so this works in a
/// network namespace without routes and is no event for anybody who watches.
fn first_address() -> Option<IpAddr> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: the call stores a list that is ours until freeifaddrs below, or fails.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return None;
    }
    let mut found = Vec::new();
    let mut at = list;
    // SAFETY: `at` is null or an entry of the list, which is not freed before the loop ends.
    while let Some(entry) = unsafe { at.as_ref() } {
        // SAFETY: same list.
        found.extend(unsafe { address(entry) });
        at = entry.ifa_next;
    }
    // SAFETY: the list came from getifaddrs and nothing refers to it any more.
    unsafe { libc::freeifaddrs(list) };
    found.iter().find(|ip| ip.is_ipv4()).or(found.first()).copied()
}

/// # Safety
///
/// `entry` must be of a list from getifaddrs that is not freed yet.
unsafe fn address(entry: &libc::ifaddrs) -> Option<IpAddr> {
    let usable = entry.ifa_flags & libc::IFF_UP as u32 != 0
        && entry.ifa_flags & libc::IFF_LOOPBACK as u32 == 0;
    // SAFETY: ifa_addr is null or points to a sockaddr of the list, whose family says its size.
    let ip = unsafe {
        match i32::from(entry.ifa_addr.as_ref()?.sa_family) {
            libc::AF_INET => {
                let inet = entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned();
                IpAddr::V4(Ipv4Addr::from(u32::from_be(inet.sin_addr.s_addr)))
            }
            libc::AF_INET6 => {
                let inet = entry.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned();
                IpAddr::V6(Ipv6Addr::from(inet.sin6_addr.s6_addr))
            }
            _ => return None,
        }
    };
    let global = match ip {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    };
    (usable && global && !ip.is_loopback()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_always_knows_its_name_and_machine() {
        let host = Host::detect();
        assert!(!host.hostname.is_empty() && !host.arch.is_empty() && !host.os.is_empty());
        assert_eq!(host.arch, std::env::consts::ARCH);
        assert!(host.ip.is_empty() || host.ip.parse::<IpAddr>().is_ok_and(|ip| !ip.is_loopback()));
    }

    #[test]
    fn missing_files_leave_an_empty_fact() {
        assert_eq!(first_line(&["/nonexistent"]), "");
        assert_eq!(os_name(&["/nonexistent"]), None);
    }
}
