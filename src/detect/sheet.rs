//! The mistakes of one file, and the readers of single values that report them.

use crate::problem::Problem;

use super::pattern::{FILE_MAX, Pattern};
use super::words::{clip, closest, one_of};
use super::yaml::{Node, Value};

/// Mistakes of one file that are listed: a file of a million wrong lines must not become a
/// million messages.
const SAID_MAX: usize = 500;
const NOT_SAID: usize = SAID_MAX + 1;

/// What one file may still spend, and the mistakes found in it.
pub(crate) struct Sheet {
    pub file: String,
    pub problems: Vec<Problem>,
    /// How many there are, said or not.
    pub mistakes: usize,
    /// Doubtful, but understood: the recipe is loaded all the same.
    pub notices: Vec<Problem>,
    patterns: usize,
}

impl Sheet {
    pub fn new(file: &str) -> Self {
        Self {
            file: file.into(),
            problems: Vec::new(),
            mistakes: 0,
            notices: Vec::new(),
            patterns: FILE_MAX,
        }
    }

    pub fn wrong(&mut self, line: usize, key: &str, message: impl Into<String>) {
        self.mistakes += 1;
        match self.mistakes {
            ..=SAID_MAX => self.problems.push(self.problem(line, key, message.into())),
            NOT_SAID => {
                let message = format!("more than {SAID_MAX} mistakes; the others are not listed");
                self.problems.push(self.problem(line, "", message));
            }
            _ => {}
        }
    }

    pub fn doubtful(&mut self, line: usize, key: &str, message: impl Into<String>) {
        if self.notices.len() < SAID_MAX {
            self.notices.push(self.problem(line, key, message.into()));
        }
    }

    fn problem(&self, line: usize, key: &str, message: String) -> Problem {
        Problem { file: self.file.clone(), line, key: key.into(), message }
    }

    pub fn pattern(&mut self, node: &Node, key: &str) -> Option<Pattern> {
        let text = self.text(node, key)?;
        match Pattern::compile(text, &mut self.patterns) {
            Ok(pattern) => Some(pattern),
            Err(message) => {
                self.wrong(node.line, key, message);
                None
            }
        }
    }

    pub fn text<'n>(&mut self, node: &'n Node, key: &str) -> Option<&'n str> {
        match &node.value {
            Value::Scalar(text) => Some(text),
            _ => {
                self.wrong(node.line, key, format!("expected one value, found {}", node.kind()));
                None
            }
        }
    }

    /// A value that `T` can parse; `expected` says what that is.
    pub fn parsed<T: std::str::FromStr>(
        &mut self,
        node: &Node,
        key: &str,
        expected: &str,
    ) -> Option<T> {
        let text = self.text(node, key)?;
        let value = text.trim().parse().ok();
        if value.is_none() {
            self.wrong(node.line, key, format!("expected {expected}, found `{}`", clip(text)));
        }
        value
    }

    /// One word of a table, its value returned.
    pub fn word<T: Copy>(&mut self, node: &Node, key: &str, table: &[(&str, T)]) -> Option<T> {
        let text = self.text(node, key)?;
        self.word_of(text, node.line, key, table)
    }

    fn word_of<T: Copy>(
        &mut self,
        text: &str,
        line: usize,
        key: &str,
        table: &[(&str, T)],
    ) -> Option<T> {
        let wanted = text.trim().to_ascii_lowercase();
        let found = table.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
            let expected = match closest(&wanted, names.iter().copied()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("expected {}", one_of(&names)),
            };
            self.wrong(line, key, format!("unknown value `{}`; {expected}", clip(text)));
        }
        found
    }

    /// A list, one value, or words joined by `|`, each a word of the table.
    pub fn words<T: Copy>(&mut self, node: &Node, key: &str, table: &[(&str, T)]) -> Vec<T> {
        let mut found = Vec::new();
        for (at, (line, text)) in self.texts(node, key).into_iter().enumerate() {
            let key = item_key(node, key, at);
            for word in text.split('|').map(str::trim).filter(|word| !word.is_empty()) {
                found.extend(self.word_of(word, line, &key, table));
            }
        }
        found
    }

    /// A list of texts, or one text, with their lines. Empty ones are left out.
    pub fn texts<'n>(&mut self, node: &'n Node, key: &str) -> Vec<(usize, &'n str)> {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut texts = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            match &item.value {
                Value::Scalar(text) if text.is_empty() => {}
                Value::Null => {}
                Value::Scalar(text) => texts.push((item.line, text.as_str())),
                _ => {
                    let key = item_key(node, key, at);
                    self.wrong(item.line, &key, format!("expected text, found {}", item.kind()));
                }
            }
        }
        texts
    }

    /// The items of a list.
    pub fn items<'n>(&mut self, node: &'n Node, key: &str) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            _ => {
                self.wrong(node.line, key, format!("expected a list, found {}", node.kind()));
                &[]
            }
        }
    }
}

fn item_key(node: &Node, key: &str, at: usize) -> String {
    if matches!(node.value, Value::List(_)) { format!("{key}[{at}]") } else { key.into() }
}
