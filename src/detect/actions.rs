//! Conditions on action sets: `file_actions`, `flow_actions`, and their `_how` and `_excl`.

use crate::event::{Actions, CONTAINER_ACTIONS, FILE_ACTIONS, FLOW_ACTIONS};

use super::fields::Fields;
use super::sheet::Sheet;

/// Which actions an event must and must not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActionRule {
    /// No action means that any will do.
    pub want: Actions,
    /// All of `want`, others allowed; otherwise one is enough.
    pub all: bool,
    /// Each of these is a veto.
    pub without: Actions,
}

impl ActionRule {
    pub const fn matches(&self, have: Actions) -> bool {
        self.matches_with(have, have)
    }

    /// `all` asks for actions that may fall into several epochs: what has happened so far must
    /// have them, and this epoch must have brought at least one of them, or the same would be
    /// told again with each later act.
    pub const fn matches_with(&self, have: Actions, history: Actions) -> bool {
        let Self { want: Actions(want), all, without: Actions(without) } = *self;
        let so_far = if all { history.0 } else { have.0 };
        if so_far & without != 0 {
            return false;
        }
        want == 0 || (have.0 & want != 0 && (!all || so_far & want == want))
    }
}

const fn bits(numbers: &[u32]) -> u32 {
    let (mut bits, mut at) = (0, 0);
    while at < numbers.len() {
        bits |= 1 << numbers[at];
        at += 1;
    }
    bits
}

/// The action `execve`.
pub(super) const EXECVE: Actions = Actions(1 << 14);
/// All actions on files.
pub(super) const ANY_FILE_ACTION: Actions = Actions(u32::MAX >> (32 - FILE_ACTIONS.len()));

const OPEN: u32 = bits(&[5, 12]);
const READ: u32 = bits(&[6, 3, 4]);
/// The first row is what existing recipes mean; the second are ways around them that leave a file
/// changed all the same: a symbolic link, a node or nothing in its place, another file's blocks,
/// a writable mapping, two names exchanged.
const MODIFY: u32 = bits(&[11, 13, 7, 9, 2, 8, 10]) | bits(&[23, 25, 26, 27, 29, 31]);
const ATTRIBUTE: u32 = bits(&[15, 16, 17, 18, 19, 20, 21, 22]);
const ACCESS: u32 = OPEN | READ | MODIFY;

/// Names for several file actions. `write_related` is in the old documentation only; it means
/// what `modify_related` does.
const MACROS: &[(&str, u32)] = &[
    ("any", ANY_FILE_ACTION.0),
    ("open_related", OPEN),
    ("read_related", READ),
    ("modify_related", MODIFY),
    ("write_related", MODIFY),
    ("access_related", ACCESS),
    ("access_no_mmap_related", ACCESS & !bits(&[4])),
    ("tamper_related", bits(&[13, 10, 9, 8])),
    ("attribute_related", ATTRIBUTE),
];

/// All words that `file_actions` knows.
pub(super) fn file_words() -> Vec<(&'static str, u32)> {
    let single = (0..).zip(FILE_ACTIONS).map(|(bit, name)| (name, 1 << bit));
    single.chain(MACROS.iter().copied()).collect()
}

/// All words that `flow_actions` knows.
pub(super) fn flow_words() -> Vec<(&'static str, u32)> {
    let any = ("any", (1 << FLOW_ACTIONS.len()) - 1);
    (0..).zip(FLOW_ACTIONS).map(|(bit, name)| (name, 1 << bit)).chain([any]).collect()
}

/// All words that `container_actions` knows.
pub(super) fn container_words() -> Vec<(&'static str, u32)> {
    let any = ("any", (1 << CONTAINER_ACTIONS.len()) - 1);
    (0..).zip(CONTAINER_ACTIONS).map(|(bit, name)| (name, 1 << bit)).chain([any]).collect()
}

/// Reads three fields: the actions, how they combine, which are excluded.
pub(super) fn read(
    sheet: &mut Sheet,
    fields: &mut Fields<'_>,
    [list, how, without]: [&'static str; 3],
    words: &[(&'static str, u32)],
) -> ActionRule {
    let union = |fields: &mut Fields<'_>, sheet: &mut Sheet, name| {
        let found = fields.words(sheet, name, words).unwrap_or_default();
        Actions(found.into_iter().fold(0, |all, bits| all | bits))
    };
    let want = union(fields, sheet, list);
    let without = union(fields, sheet, without);
    let all = fields.word(sheet, how, &[("any", false), ("all", true)]).unwrap_or(false);
    if want.0 & without.0 != 0 && (all || want.0 & !without.0 == 0) {
        let message = "the actions that are wanted are also excluded: this never matches";
        fields.wrong(sheet, list, message);
    }
    ActionRule { want, all, without }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macros_name_the_documented_bits() {
        let words = file_words();
        let of = |name: &str| {
            let names = words.iter().find(|(each, _)| *each == name).map(|(_, bits)| *bits);
            let bits = Actions(names.expect("known"));
            (0..32).filter(|bit| bits.has(*bit)).map(|bit| FILE_ACTIONS[bit as usize]).collect()
        };
        let read: Vec<&str> = of("read_related");
        assert_eq!(read, ["llseek", "mmap", "read"]);
        let modify: Vec<&str> = of("modify_related");
        assert_eq!(
            modify[..7],
            ["fsync", "write", "rename", "truncate", "unlink", "create", "link"]
        );
        assert_eq!(modify[7..], ["symlink", "rmdir", "mknod", "clone", "mmap_write", "exchange"]);
        let access: Vec<&str> = of("access_related");
        assert_eq!(access.len(), 18);
        assert!(!access.contains(&"fasync") && !access.contains(&"flock"));
        assert!(!access.contains(&"execve"));
        assert_eq!(of("tamper_related"), ["rename", "truncate", "unlink", "link"]);
    }

    #[test]
    fn any_all_and_veto() {
        let rule =
            |want, all, without| ActionRule { want: Actions(want), all, without: Actions(without) };
        assert!(rule(0b11, false, 0).matches(Actions(0b101)));
        assert!(!rule(0b11, true, 0).matches(Actions(0b101)));
        assert!(rule(0b11, true, 0).matches(Actions(0b111)), "all is a superset, not equality");
        assert!(!rule(0b11, false, 0b100).matches(Actions(0b101)));
        assert!(rule(0, false, 0).matches(Actions(0)));
    }
}
