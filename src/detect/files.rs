//! Conditions on files: where they are and what was done with them.

use crate::event::{Actions, Mechanism};

use super::actions::{self, ActionRule, EXECVE};
use super::fields::Fields;
use super::pattern::Pattern;
use super::recipe::RecipeMechanism;
use super::sheet::Sheet;
use super::yaml::Node;

/// What a file event must be.
#[derive(Debug)]
pub struct FileRule {
    pub actions: ActionRule,
    /// Any of these; none means any file.
    pub places: Vec<FilePlace>,
    /// The file must be one that the process itself is made of; empty means it need not.
    pub file_is: Vec<FileIs>,
}

/// One entry of `bases`, or the fields of that name on the recipe: all that are given must hold.
#[derive(Debug, Default)]
pub struct FilePlace {
    /// The directory that holds the file, without a slash at the end (the root is empty).
    pub dir: Option<Box<str>>,
    pub base: Option<Box<str>>,
    /// On the whole path.
    pub regex: Option<Pattern>,
}

/// Relations between a file and the process that uses it (our own condition).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileIs {
    TaskExe,
    ParentExe,
}

const FILE_ISES: &[(&str, FileIs)] =
    &[("task_exe", FileIs::TaskExe), ("parent_exe", FileIs::ParentExe)];

/// `/a/b` is `b` in `/a`. A path without a slash (`memfd:x`) lies in no directory.
pub(super) fn split(path: &str) -> (Option<&str>, &str) {
    match path.rsplit_once('/') {
        Some((dir, base)) => (Some(dir), base),
        None => (None, path),
    }
}

impl FilePlace {
    pub fn matches(&self, path: &str) -> bool {
        let (dir, base) = split(path);
        self.dir.as_deref().is_none_or(|wanted| dir == Some(wanted))
            && self.base.as_deref().is_none_or(|wanted| base == wanted)
            && self.regex.as_ref().is_none_or(|regex| regex.is_match(path))
    }
}

impl FileRule {
    pub(super) fn read(
        sheet: &mut Sheet,
        fields: &mut Fields<'_>,
        mechanism: Option<RecipeMechanism>,
    ) -> Self {
        let names = ["file_actions", "file_actions_how", "file_actions_excl"];
        let mut actions = actions::read(sheet, fields, names, &actions::file_words());
        let execution = mechanism == Some(RecipeMechanism::One(Mechanism::Execution));
        if actions.want == Actions(0) && execution {
            actions.want = EXECVE;
        }
        if execution && actions.want.0 & EXECVE.0 == 0 {
            let message = "an execution recipe sees nothing but `execve`";
            fields.wrong(sheet, "file_actions", message);
        }
        let file_is = fields.words(sheet, "file_is", FILE_ISES).unwrap_or_default();
        let mut places: Vec<FilePlace> = read_place(sheet, fields).into_iter().collect();
        if let Some(node) = fields.take("bases") {
            let key = fields.key("bases");
            for (at, node) in sheet.items(node, &key).iter().enumerate() {
                places.extend(read_entry(sheet, node, &format!("{key}[{at}]")));
            }
        }
        Self { actions, places, file_is }
    }
}

fn read_entry(sheet: &mut Sheet, node: &Node, at: &str) -> Option<FilePlace> {
    let mut fields = Fields::new(sheet, node, at)?;
    let before = sheet.mistakes;
    let place = read_place(sheet, &mut fields);
    let line = fields.line;
    fields.finish(sheet);
    if place.is_none() && sheet.mistakes == before {
        sheet.wrong(line, at, "expected at least one of dir, base, regex");
    }
    place
}

fn read_place(sheet: &mut Sheet, fields: &mut Fields<'_>) -> Option<FilePlace> {
    let base = fields.text(sheet, "base");
    if base.is_some_and(|base| base.contains('/')) {
        let message = "a base name has no `/`; put the directory into `dir`";
        fields.wrong(sheet, "base", message);
    }
    let dir = fields.text(sheet, "dir");
    if dir.is_some_and(|dir| !dir.starts_with('/')) {
        let message = "expected an absolute directory; for parts of paths use `regex`";
        fields.wrong(sheet, "dir", message);
    }
    let regex = fields.pattern(sheet, "regex");
    if base.is_none() && dir.is_none() && regex.is_none() {
        return None;
    }
    let dir = dir.map(|dir| dir.trim_end_matches('/').into());
    Some(FilePlace { dir, base: base.map(Into::into), regex })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::pattern::FILE_MAX;

    fn place(dir: Option<&str>, base: Option<&str>, regex: Option<&str>) -> FilePlace {
        let regex = regex.map(|text| Pattern::compile(text, &mut { FILE_MAX }).expect("compiles"));
        FilePlace { dir: dir.map(Into::into), base: base.map(Into::into), regex }
    }

    #[test]
    fn directories_mean_their_direct_children() {
        assert!(place(Some("/etc"), None, None).matches("/etc/passwd"));
        assert!(!place(Some("/etc"), None, None).matches("/etc/pam.d/su"));
        assert!(!place(Some("/etc"), None, None).matches("/etc"));
        assert!(place(Some(""), None, None).matches("/vmlinuz"));
        assert!(!place(Some(""), None, None).matches("memfd:x"));
    }

    #[test]
    fn all_that_is_given_must_hold() {
        let netplan = place(Some("/etc/netplan"), None, Some(r".*\.ya?ml$"));
        assert!(netplan.matches("/etc/netplan/a.yml") && !netplan.matches("/etc/netplan/a.bak"));
        assert!(!netplan.matches("/root/a.yml"));
        assert!(place(None, Some("x"), None).matches("/a/b/x"));
        assert!(!place(Some("/a"), Some("x"), None).matches("/a/b/x"));
    }
}
