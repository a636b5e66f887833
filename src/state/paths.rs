//! Paths from interned components.
//!
//! The kernel keeps a path as a chain of components whose ids mix the parent's id, the name's
//! hash and the inode: equal ids mean equal chains. A sealed epoch brings the components that
//! its rows need; assembled texts are kept, since the same ids come again in later epochs.

use ahash::AHashMap;

use super::recent::Recent;
use crate::kernel::types::{node_flags, node_key, path_node};
use crate::text::Text;

const ROOT: u64 = 1;
const NAME: usize = 48;
/// Components for which there is room between epochs.
const KEPT: usize = 4096;
/// Deeper than the kernel walks; a chain that does not end is broken, not long.
const DEPTH_MAX: usize = 300;

/// A path and what is known of how it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path {
    pub text: Text,
    /// Its start is missing: too deep, or a component had no place.
    pub truncated: bool,
    /// It leads to no root: memfd, lazily unmounted.
    pub detached: bool,
    /// Put together just now: this id was not known before (or not kept).
    pub fresh: bool,
}

/// The components of one epoch, and texts kept over epochs.
#[derive(Debug)]
pub struct Paths {
    /// As they came; most epochs bring no path that is not known, and then nobody looks.
    fresh: Vec<(node_key, path_node)>,
    nodes: AHashMap<(u64, u32), path_node>,
    texts: Recent<u64, Path>,
}

impl Paths {
    /// Keeps up to `texts` paths.
    pub fn new(texts: usize) -> Self {
        Self { fresh: Vec::new(), nodes: AHashMap::new(), texts: Recent::new(texts) }
    }

    /// Takes a component of the epoch that is being read.
    pub fn add(&mut self, key: &node_key, node: &path_node) {
        self.fresh.push((*key, *node));
    }

    /// The epoch's rows have been read.
    pub fn end_epoch(&mut self) {
        self.nodes.clear();
        self.fresh.clear();
        // A flood's tables are not kept: memory follows what is usual, not what once was.
        self.nodes.shrink_to(KEPT);
        self.fresh.shrink_to(KEPT);
    }

    /// The path of an id of this epoch's rows; empty for 0, which means that none was to be had.
    pub fn get(&mut self, id: u64) -> Path {
        if id == 0 {
            return Path { truncated: true, ..Path::default() };
        }
        if let Some(path) = self.texts.get(&id) {
            return path.clone();
        }
        self.nodes.extend(self.fresh.drain(..).map(|(key, node)| ((key.id, key.chunk), node)));
        let path = self.assemble(id);
        // A chain with a hole may be whole in the next epoch: not kept.
        if !path.truncated {
            self.texts.insert(id, path.clone());
        }
        Path { fresh: true, ..path }
    }

    fn assemble(&self, leaf: u64) -> Path {
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut path = Path::default();
        let mut id = leaf;
        let mut argument = None;
        while id != ROOT {
            let Some(node) = self.nodes.get(&(id, 0)) else {
                path.truncated = true;
                break;
            };
            path.truncated |= node.flags & node_flags::NODE_CUT.0 != 0;
            path.detached |= node.flags & node_flags::NODE_DETACHED.0 != 0;
            let name = self.name(id, node);
            match node.flags & node_flags::NODE_ARGUMENT.0 {
                0 => names.push(name),
                _ => argument = Some(name),
            }
            if node.parent == 0 || names.len() > DEPTH_MAX {
                break;
            }
            id = node.parent;
        }
        names.reverse();
        let mut bytes =
            Vec::with_capacity(names.iter().map(|name| name.len() + 1).sum::<usize>() + 1);
        for (at, name) in names.iter().enumerate() {
            // A memfd is a name, not a path; a whole chain starts at the root.
            if at > 0 || !(path.detached && names.len() == 1) {
                bytes.push(b'/');
            }
            bytes.extend_from_slice(name);
        }
        if let Some(argument) = argument {
            bytes = lexical(&bytes, &argument);
        } else if bytes.is_empty() {
            bytes.push(b'/');
        }
        path.text = Text::new(&bytes);
        path
    }

    /// A name over its chunks. An argument's are one byte shorter: each was read as a string.
    fn name(&self, id: u64, first: &path_node) -> Vec<u8> {
        let length = first.length as usize;
        let stride = match first.flags & node_flags::NODE_ARGUMENT.0 {
            0 => NAME,
            _ => NAME - 1,
        };
        let mut name = Vec::with_capacity(length);
        name.extend_from_slice(&first.name[..length.min(stride)]);
        let mut chunk = 1;
        while name.len() < length {
            let Some(node) = self.nodes.get(&(id, chunk)) else { break };
            name.extend_from_slice(&node.name[..(length - name.len()).min(stride)]);
            chunk += 1;
        }
        name
    }
}

/// A path that a task passed, below its base, made plain: no `.`, `..` or empty component.
/// Symbolic links are not followed; the row says that it is known by name only. The base of an
/// absolute one is the task's root, and no `..` leads out of that.
fn lexical(base: &[u8], argument: &[u8]) -> Vec<u8> {
    let filled = |part: &&[u8]| !part.is_empty();
    let mut parts: Vec<&[u8]> = base.split(|byte| *byte == b'/').filter(filled).collect();
    let floor = if argument.starts_with(b"/") { parts.len() } else { 0 };
    for part in argument.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.len() > floor => {
                parts.pop();
            }
            b".." => {}
            _ => parts.push(part),
        }
    }
    let mut plain = Vec::with_capacity(base.len() + argument.len() + 1);
    for part in &parts {
        plain.push(b'/');
        plain.extend_from_slice(part);
    }
    if plain.is_empty() {
        plain.push(b'/');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(parent: u64, name: &[u8], flags: u32) -> path_node {
        let mut node =
            path_node { parent, length: name.len() as u32, flags, ..path_node::default() };
        let kept = name.len().min(NAME);
        node.name[..kept].copy_from_slice(&name[..kept]);
        node
    }

    fn key(id: u64, chunk: u32) -> node_key {
        node_key { id, chunk, pad: 0 }
    }

    #[test]
    fn a_chain_is_a_path_and_is_kept() {
        let mut paths = Paths::new(100);
        paths.add(&key(5, 0), &node(ROOT, b"etc", 0));
        paths.add(&key(6, 0), &node(5, b"shadow", 0));
        assert_eq!(paths.get(6).text.as_str(), "/etc/shadow");
        paths.end_epoch();
        assert_eq!(paths.get(6).text.as_str(), "/etc/shadow");
        assert_eq!(paths.get(ROOT).text.as_str(), "/");
    }

    #[test]
    fn a_missing_component_is_said_and_not_kept() {
        let mut paths = Paths::new(100);
        paths.add(&key(6, 0), &node(5, b"shadow", 0));
        let path = paths.get(6);
        assert!(path.truncated);
        assert_eq!(path.text.as_str(), "/shadow");
        paths.add(&key(5, 0), &node(ROOT, b"etc", 0));
        assert_eq!(paths.get(6).text.as_str(), "/etc/shadow");
    }

    #[test]
    fn long_names_come_in_chunks() {
        let mut paths = Paths::new(100);
        let long = [b'a'; 100];
        paths.add(&key(9, 0), &node(ROOT, &long, 0));
        for (chunk, from) in [(1, 48), (2, 96)] {
            let mut more = node(ROOT, &long[from..], 0);
            more.length = 100;
            paths.add(&key(9, chunk), &more);
        }
        assert_eq!(paths.get(9).text.as_str(), format!("/{}", "a".repeat(100)));
    }

    #[test]
    fn arguments_are_made_plain_below_their_base() {
        let mut paths = Paths::new(100);
        paths.add(&key(5, 0), &node(ROOT, b"home", 0));
        paths.add(&key(7, 0), &node(5, b".././tmp//x", node_flags::NODE_ARGUMENT.0));
        assert_eq!(paths.get(7).text.as_str(), "/tmp/x");
    }

    #[test]
    fn an_absolute_argument_stays_below_the_root_of_its_task() {
        let mut paths = Paths::new(100);
        paths.add(&key(5, 0), &node(ROOT, b"jail", 0));
        paths.add(&key(7, 0), &node(5, b"/../../etc/x", node_flags::NODE_ARGUMENT.0));
        paths.add(&key(8, 0), &node(ROOT, b"/a/../b", node_flags::NODE_ARGUMENT.0));
        assert_eq!(paths.get(7).text.as_str(), "/jail/etc/x");
        assert_eq!(paths.get(8).text.as_str(), "/b");
    }

    #[test]
    fn a_memfd_has_a_name_only() {
        let mut paths = Paths::new(100);
        paths.add(&key(8, 0), &node(0, b"memfd:x", node_flags::NODE_DETACHED.0));
        let path = paths.get(8);
        assert_eq!(path.text.as_str(), "memfd:x");
        assert!(path.detached && !path.truncated);
    }
}
