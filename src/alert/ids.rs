//! Identities in alerts: derived from what a thing is, so that one thing has one id in each
//! alert, from each plugin, before and after a restart of the daemon.
//!
//! All are UUIDs of version 5 (SHA-1 of a name within a namespace): anybody can compute them
//! again. They group; they prove nothing, as who chooses the bytes can make 64 bits collide.

use std::net::IpAddr;

use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::alert::Host;
use crate::event::{File, Flow, TaskKey};

/// The namespace of all of our names, chosen once at random.
const NAMESPACE: Uuid = Uuid::from_u128(0x5a6c_9d1e_40b7_4c1b_9a55_7c0f_3e8d_21b4);

/// A 64-bit id, written as 16 hex digits: JSON numbers over 2^53 are rounded by many readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash64(u64);

impl Serialize for Hash64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

/// The parts of a name, each with its length, so that ("a", "bc") is not ("ab", "c").
struct Name(Vec<u8>);

impl Name {
    fn of(class: &str) -> Self {
        Self(Vec::with_capacity(128)).part(class.as_bytes())
    }

    fn part(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    fn number(self, number: u64) -> Self {
        self.part(&number.to_be_bytes())
    }

    fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(ip) => self.part(&ip.octets()),
            IpAddr::V6(ip) => self.part(&ip.octets()),
        }
    }

    fn uuid(&self) -> Uuid {
        Uuid::new_v5(&NAMESPACE, &self.0)
    }

    /// The first half, but for the two bytes in which a UUID keeps its version and variant.
    fn hash(&self) -> Hash64 {
        let [a, b, c, d, e, f, _, g, _, h, ..] = *self.uuid().as_bytes();
        Hash64(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

/// Of some bytes alone: the same on each host.
pub fn bytes_hash(class: &str, parts: &[&[u8]]) -> Hash64 {
    parts.iter().fold(Name::of(class), |name, part| name.part(part)).hash()
}

fn task_name(host: &Host, key: TaskKey) -> Name {
    Name::of("process")
        .part(host.machine_id.as_bytes())
        .part(host.boot_id.as_bytes())
        .number(key.start_ns)
        .number(key.tgid.into())
        .number(key.exec_id.into())
}

/// Of one process image on one host in one boot.
pub fn process_uuid(host: &Host, key: TaskKey) -> Uuid {
    task_name(host, key).uuid()
}

pub fn process_hash(host: &Host, key: TaskKey) -> Hash64 {
    task_name(host, key).hash()
}

/// Of one name of one inode on one host.
pub fn file_uuid(host: &Host, file: &File) -> Uuid {
    Name::of("file")
        .part(host.machine_id.as_bytes())
        .number(file.dev)
        .number(file.inode)
        .part(file.path.bytes())
        .uuid()
}

fn flow_name(class: &str, flow: &Flow) -> Name {
    Name::of(class)
        .number(flow.protocol.into())
        .address(flow.local)
        .number(flow.local_port.into())
        .address(flow.remote)
        .number(flow.remote_port.into())
}

/// Of one conversation of one process image.
pub fn flow_uuid(host: &Host, task: TaskKey, flow: &Flow) -> Uuid {
    flow_name("flow", flow).number(flow.netns).part(process_uuid(host, task).as_bytes()).uuid()
}

/// Of protocol, addresses and ports alone.
pub fn flow_hash(flow: &Flow) -> Hash64 {
    flow_name("flow", flow).hash()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_image_has_one_id_and_the_next_image_another() {
        let host = Host { machine_id: "m".into(), ..Default::default() };
        let key = TaskKey { start_ns: 7, tgid: 1, exec_id: 3 };
        assert_eq!(process_uuid(&host, key), process_uuid(&host, key));
        assert_ne!(process_uuid(&host, key), process_uuid(&host, TaskKey { exec_id: 4, ..key }));
        assert_ne!(process_uuid(&host, key), process_uuid(&Host::default(), key));
        assert_eq!(process_uuid(&host, key).get_version_num(), 5);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(bytes_hash("args", &[b"a", b"bc"]), bytes_hash("args", &[b"ab", b"c"]));
        assert_ne!(bytes_hash("exe", &[b"a"]), bytes_hash("args", &[b"a"]));
    }

    #[test]
    fn a_hash_is_sixteen_hex_digits() {
        assert_eq!(serde_json::to_string(&Hash64(0xab)).unwrap(), "\"00000000000000ab\"");
    }
}
