//! YAML as a tree that remembers lines, read within bounds.
//!
//! Recipe files may come from anywhere, so nothing here grows with what a file *says* but only
//! with what it *is*: nesting, nodes and alias expansion are counted while the parser's events
//! arrive, before anything is built from them. (`serde_yaml` forgets the lines of values, and a
//! loader of whole trees counts only afterwards.)

use ahash::AHashMap;
use saphyr_parser::{Event, Parser, ScalarStyle};

/// Lists and mappings inside each other. The grammar needs 6.
const DEPTH_MAX: usize = 24;
/// Nodes of one file, aliases expanded: the longest public block lists have some ten thousand
/// lines, the largest lists of domains some hundred thousand.
const NODES_MAX: usize = 1_000_000;

/// A value and the line (from 1) on which it starts.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub line: usize,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    /// The text as written; what it means is the reader's business (`1.0` is a version).
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub line: usize,
    pub name: String,
}

/// Why a file is not YAML, or not YAML that we read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub line: usize,
    pub message: String,
}

impl Node {
    /// What the node is, for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    fn size(&self) -> usize {
        1 + match &self.value {
            Value::Null | Value::Scalar(_) => 0,
            Value::List(items) => items.iter().map(Self::size).sum(),
            Value::Map(entries) => entries.iter().map(|(_, node)| 1 + node.size()).sum(),
        }
    }
}

/// A collection that is still open.
struct Open {
    node: Node,
    anchor: usize,
    /// The key that waits for its value, in a mapping.
    key: Option<Key>,
}

/// Reads all documents of a file.
pub(crate) fn parse(text: &str) -> Result<Vec<Node>, SyntaxError> {
    let mut tree = Tree::default();
    let mut parser = Parser::new_from_str(text);
    // The pull interface keeps its own stack; `Parser::load` would recurse as deep as the file.
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| SyntaxError {
            line: error.marker().line(),
            message: format!("not valid YAML: {}", error.info()),
        })?;
        let line = span.start.line();
        tree.take(event, line).map_err(|message| SyntaxError { line, message })?;
    }
    Ok(tree.documents)
}

#[derive(Default)]
struct Tree {
    documents: Vec<Node>,
    open: Vec<Open>,
    /// Anchored nodes by the parser's number.
    anchors: AHashMap<usize, Node>,
    nodes: usize,
}

impl Tree {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), String> {
        match event {
            Event::SequenceStart(anchor, _) => self.open(Value::List(Vec::new()), anchor, line),
            Event::MappingStart(anchor, _) => self.open(Value::Map(Vec::new()), anchor, line),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(done) => self.put(done.node, done.anchor),
                None => Err("a collection ends that never started".into()),
            },
            Event::Scalar(text, style, anchor, _) => {
                let null = style == ScalarStyle::Plain
                    && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if null { Value::Null } else { Value::Scalar(text.into_owned()) };
                self.count(1)?;
                self.put(Node { line, value }, anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err("an alias to something that is not complete".into());
                };
                // Counted before it is copied.
                let size = node.size();
                if self.nodes + size > NODES_MAX {
                    return self.count(size);
                }
                let value = node.value.clone();
                self.count(size)?;
                self.put(Node { line, value }, 0)
            }
            _ => Ok(()),
        }
    }

    fn count(&mut self, nodes: usize) -> Result<(), String> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            return Err(format!("more than {NODES_MAX} values, aliases included, in one file"));
        }
        Ok(())
    }

    fn open(&mut self, value: Value, anchor: usize, line: usize) -> Result<(), String> {
        if self.open.len() >= DEPTH_MAX {
            return Err(format!("nested deeper than {DEPTH_MAX} levels"));
        }
        self.count(1)?;
        self.open.push(Open { node: Node { line, value }, anchor, key: None });
        Ok(())
    }

    fn put(&mut self, node: Node, anchor: usize) -> Result<(), String> {
        if anchor > 0 {
            // Each anchored node is kept a second time, so it counts a second time.
            self.count(node.size())?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        match &mut open.node.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match open.key.take() {
                Some(key) => entries.push((key, node)),
                None => open.key = Some(key_of(node)?),
            },
            Value::Null | Value::Scalar(_) => return Err("a value inside a single value".into()),
        }
        Ok(())
    }
}

fn key_of(node: Node) -> Result<Key, String> {
    match node.value {
        Value::Scalar(name) => Ok(Key { line: node.line, name }),
        _ => Err(format!("a key must be a word, this is {}", node.kind())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_those_of_an_editor() {
        let documents = parse("- a: 1\n  b:\n    - x\n    - y\n").expect("valid");
        let Value::List(items) = &documents[0].value else { panic!("a list") };
        let Value::Map(entries) = &items[0].value else { panic!("a mapping") };
        assert_eq!((entries[1].0.line, entries[1].1.line), (2, 3));
    }

    #[test]
    fn an_error_has_its_line() {
        let error = parse("- a: 1\n- b: [1\n- c\n").expect_err("not closed");
        assert!(error.line >= 2, "{error:?}");
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&"- ".repeat(10_000)).is_err());
    }

    #[test]
    fn aliases_cannot_multiply_without_end() {
        let mut text = String::from("- &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for n in 1..12 {
            let alias = format!("*a{},", n - 1).repeat(10);
            text += &format!("- &a{n} [{alias}]\n");
        }
        let error = parse(&text).expect_err("ten to the twelfth");
        assert!(error.message.contains("aliases"), "{error:?}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_yaml_like_text_panics(text in "[-:&*a\\[\\]{}?|>'\"#!%, \n\t]{0,120}") {
            let _ = parse(&text);
        }
    }
}
