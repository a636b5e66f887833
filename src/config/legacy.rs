//! Older layouts, moved to the present one before anything is checked.
//!
//! Two came before: keys at the top of the file (caches in entries, not in 1024 entries), and a
//! `config:` block with lists of `jibril:NAME:key=value`. Moving works on the tree and keeps the
//! lines, so that what the table of keys refuses is said with the user's own line.

use saphyr::ScalarOwned as Scalar;

use super::suggest::normal;
use super::yaml::{Entry, Node, Value};

/// Keys that once stood at the top of the file, and where they stand now.
const MOVED: [(&str, &[&str]); 5] = [
    ("log_level", &["run-time", "log-level"]),
    ("stdout", &["run-time", "stdout"]),
    ("stderr", &["run-time", "stderr"]),
    ("profiler", &["run-time", "profiler"]),
    ("cardinal", &["run-time", "cardinal"]),
];

/// Keys of the first layout that mean nothing here.
const DROPPED: [&str; 3] = ["chop_lines", "daemon", "notify"];

/// Lists of names, and what they are called now.
const LISTS: [(&str, &str); 4] = [
    ("extension", "functionalities"),
    ("plugin", "features"),
    ("printer", "printers"),
    ("event", "events"),
];

/// Caches of the first layout (in entries) whose names are more than `jb_` before today's.
const CACHES: [(&str, &str); 8] = [
    ("jb_rectasks", "rec-tasks"),
    ("jb_filetask", "file-task"),
    ("jb_taskfile", "task-file"),
    ("jb_filerefs", "task-ref"),
    ("jb_taskflow", "task-flow"),
    ("jb_flowtask", "flow-task"),
    ("jb_flowrefs", "flow-ref"),
    ("jb_peers", "peers"),
];

/// Caches of the first layout whose names are `jb_` before today's.
const SAME_CACHES: [&str; 6] =
    ["jb_tasks", "jb_cmds", "jb_args", "jb_files", "jb_dirs", "jb_bases"];

/// Caches that nothing corresponds to.
const DROPPED_CACHES: [&str; 3] = ["jb_thashcache", "jb_domains", "jb_canons"];

/// Rewrites the tree in place; each change is one notice.
pub(super) fn translate(root: &mut Node) -> Vec<String> {
    let mut moving = Moving { out: Vec::new(), notices: Vec::new() };
    let Value::Map(entries) = &mut root.value else {
        return moving.notices;
    };
    // What stands at its place comes first, so that what is moved can be put below it.
    let (old, present) =
        std::mem::take(entries).into_iter().partition(|entry| is_old(&normal(&entry.key)));
    moving.out = present;
    for entry in old {
        moving.top(entry);
    }
    *entries = moving.out;
    moving.notices
}

/// True for the keys at the top of the file that [`Moving::top`] looks at.
fn is_old(name: &str) -> bool {
    MOVED.iter().any(|(old, _)| *old == name)
        || LISTS.iter().any(|(old, _)| *old == name)
        || DROPPED.contains(&name)
        || ["no_health", "config", "caches"].contains(&name)
}

struct Moving {
    out: Vec<Entry>,
    notices: Vec<String>,
}

impl Moving {
    fn notice(&mut self, line: usize, what: &str) {
        self.notices.push(format!("line {line}: {what}"));
    }

    /// A key at the top of the file for which [`is_old`] holds.
    fn top(&mut self, mut entry: Entry) {
        let name = normal(&entry.key);
        if let Some((old, new)) = MOVED.iter().find(|(old, _)| *old == name) {
            self.notice(entry.line, &format!("{old} is read as {}", new.join(".")));
            put(&mut self.out, new, entry.line, entry.value);
        } else if let Some((old, new)) = LISTS.iter().find(|(old, _)| *old == name) {
            self.names(old, new, entry);
        } else if DROPPED.contains(&name.as_str()) {
            self.notice(entry.line, &format!("{name} is of an older layout and has no effect"));
        } else if name == "no_health" {
            self.notice(entry.line, "no-health is read as the opposite of run-time.health");
            if let Value::Scalar(Scalar::Boolean(value)) = &mut entry.value.value {
                *value = !*value;
            }
            put(&mut self.out, &["run-time", "health"], entry.line, entry.value);
        } else if let Value::Map(entries) = &mut entry.value.value {
            let entries = std::mem::take(entries);
            if name == "config" {
                return self.block(entries);
            }
            let value = Value::Map(self.caches(entries));
            let value = Node { line: entry.value.line, value };
            self.out.push(Entry { value, ..entry });
        } else {
            self.out.push(entry);
        }
    }

    /// The `config:` block: the four lists; anything else stays, to be refused by its name.
    fn block(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let name = normal(&entry.key);
            match LISTS.iter().find(|(old, _)| *old == name) {
                Some((old, new)) => self.names(old, new, entry),
                None => {
                    let key = format!("config.{}", entry.key);
                    self.out.push(Entry { key, ..entry });
                }
            }
        }
    }

    /// A list of `jibril:NAME:key=value` becomes a list of names, and options elsewhere.
    fn names(&mut self, old: &str, new: &str, entry: Entry) {
        self.notice(entry.line, &format!("{old} is read as {new}"));
        let mut value = entry.value;
        if let Value::List(items) = &mut value.value {
            let mut kept = Vec::new();
            for item in std::mem::take(items) {
                kept.extend(self.name(new, item));
            }
            *items = kept;
        }
        put(&mut self.out, &[new], entry.line, value);
    }

    /// One item of such a list; `None` if it names what is no longer a name.
    fn name(&mut self, list: &str, item: Node) -> Option<Node> {
        let Value::Scalar(Scalar::String(text)) = &item.value else {
            return Some(item);
        };
        let parts: Vec<&str> = text.split(':').skip_while(|part| *part == "jibril").collect();
        let Some((name, options)) = parts.split_first() else {
            return Some(item);
        };
        if list != "functionalities" && list != "features" {
            // `jibril:detect:NAME`, `jibril:printers:NAME`: the host of a name needs no saying.
            let name = parts.iter().rfind(|part| !part.contains('='))?;
            let value = Value::Scalar(Scalar::String((*name).to_owned()));
            return Some(Node { line: item.line, value });
        }
        for option in options {
            self.option(item.line, name, option);
        }
        let value = Value::Scalar(Scalar::String((*name).to_owned()));
        (*name != "printers").then_some(Node { line: item.line, value })
    }

    /// `key=value` behind the name of a plugin.
    fn option(&mut self, line: usize, plugin: &str, option: &str) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let scalar = |scalar| Node { line, value: Value::Scalar(scalar) };
        let text = || scalar(Scalar::String(value.to_owned()));
        let (path, node): (&[&str], Node) = match (plugin, key) {
            ("netpolicy", "file") => (&["feature_options", "netpolicy", "file"], text()),
            ("alchemies", "builtin") => {
                let value = Scalar::parse_from_cow(value.into());
                (&["feature_options", "alchemies", "builtin", "enabled"], scalar(value))
            }
            ("alchemies", "path") => (
                &["feature_options", "alchemies", "public", "paths"],
                Node { line, value: Value::List(vec![text()]) },
            ),
            _ => return self.notice(line, "an option of a plugin has no effect and is left out"),
        };
        self.notice(line, &format!("an option of {plugin} is read as {}", path.join(".")));
        put(&mut self.out, path, line, node);
    }

    /// Caches in entries become caches in 1024 entries, rounded up.
    fn caches(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        let mut kept = Vec::new();
        for mut entry in entries {
            let name = normal(&entry.key);
            let new = CACHES.iter().find(|(old, _)| *old == name).map(|(_, new)| *new);
            let same =
                || SAME_CACHES.contains(&name.as_str()).then(|| name.trim_start_matches("jb_"));
            if let Some(new) = new.or_else(same) {
                self.notice(entry.line, &format!("{name} is read as caches.{new}, 1024 to one"));
                if let Value::Scalar(Scalar::Integer(size)) = &mut entry.value.value {
                    *size = size.saturating_add(1023).div_euclid(1024);
                }
                entry.key = new.into();
                kept.push(entry);
            } else if DROPPED_CACHES.contains(&name.as_str()) {
                self.notice(entry.line, &format!("{name} sizes nothing here"));
            } else {
                kept.push(entry);
            }
        }
        kept
    }
}

/// Puts a value at a path, below what is there. A list is joined to one that was moved before; any
/// other value that is there already stays a second time, to be refused as such.
fn put(map: &mut Vec<Entry>, path: &[&str], line: usize, mut value: Node) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    let there = map.iter_mut().find(|entry| normal(&entry.key) == normal(first));
    match (there.map(|entry| &mut entry.value.value), &mut value.value) {
        (Some(empty @ Value::Scalar(Scalar::Null)), _) if !rest.is_empty() => {
            let mut below = Vec::new();
            put(&mut below, rest, line, value);
            *empty = Value::Map(below);
            return;
        }
        (Some(Value::Map(below)), _) if !rest.is_empty() => return put(below, rest, line, value),
        (Some(Value::List(there)), Value::List(more)) if *first == "paths" => {
            return there.append(more);
        }
        _ => {}
    }
    let value = if rest.is_empty() {
        value
    } else {
        let mut below = Vec::new();
        put(&mut below, rest, line, value);
        Node { line, value: Value::Map(below) }
    };
    map.push(Entry { key: (*first).into(), line, value });
}
