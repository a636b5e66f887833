//! YAML read into a small tree that remembers lines, under limits.
//!
//! Neither serde nor the usual loaders serve here: the first stop at the first mistake and know
//! no line of a key, the second drop duplicate keys and build everything, aliases expanded,
//! before a limit can be set. The parser's events are enough, and they can be counted.

use std::borrow::Cow;
use std::collections::BTreeMap;

use saphyr::{ScalarOwned, ScalarStyle, Tag};
use saphyr_parser::{Event, Parser, StrInput};

/// Bytes of the largest file. The largest sensible one is some ten KiB.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// Lists and maps inside each other. The format has four.
const MAX_DEPTH: usize = 16;
/// Scalars, lists and maps, those that aliases repeat included.
const MAX_NODES: usize = 20_000;
/// A longer text counts as more than one node where it is copied, or one text of a megabyte and
/// thousands of aliases would be gigabytes.
const BYTES_PER_NODE: usize = 64;

/// A value and the line where it starts (from 1).
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub line: usize,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Scalar(ScalarOwned),
    List(Vec<Node>),
    /// In the file's order, duplicates kept.
    Map(Vec<Entry>),
}

/// A key, its line, its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub line: usize,
    pub value: Node,
}

impl Node {
    pub(super) fn is_null(&self) -> bool {
        matches!(self.value, Value::Scalar(ScalarOwned::Null))
    }

    /// What a copy of this tree costs: its nodes, and more for long texts.
    fn weight(&self) -> usize {
        let text = |text: &str| text.len() / BYTES_PER_NODE;
        1 + match &self.value {
            Value::Scalar(ScalarOwned::String(scalar)) => text(scalar),
            Value::Scalar(_) => 0,
            Value::List(items) => items.iter().map(Self::weight).sum(),
            Value::Map(entries) => {
                entries.iter().map(|entry| text(&entry.key) + entry.value.weight()).sum()
            }
        }
    }
}

/// Why a text cannot be read at all.
#[derive(Debug)]
pub(super) struct Broken {
    pub line: usize,
    pub message: String,
}

fn broken(line: usize, message: impl Into<String>) -> Broken {
    Broken { line, message: message.into() }
}

/// The one document of a text; `None` if there is nothing but comments.
pub(super) fn read(text: &str) -> Result<Option<Node>, Broken> {
    if text.len() > MAX_BYTES {
        return Err(broken(0, format!("is larger than {MAX_BYTES} bytes")));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        last_line: last_line(text),
        nodes: 0,
        anchors: BTreeMap::new(),
    };
    let mut document = None;
    loop {
        let (event, line) = reader.next()?;
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            _ if document.is_some() => {
                return Err(broken(line, "a second document starts here; expected one"));
            }
            event => document = Some(reader.node(event, line, 0)?),
        }
    }
    Ok(document.filter(|node| !node.is_null()))
}

/// The last line that is not blank. A lone carriage return ends a line of YAML, too.
fn last_line(text: &str) -> usize {
    let bytes = text.trim_end().as_bytes();
    let lone = bytes.windows(2).filter(|pair| pair[0] == b'\r' && pair[1] != b'\n').count();
    1 + lone + bytes.iter().filter(|&&byte| byte == b'\n').count()
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// Where the parser points past the end, a person looks here.
    last_line: usize,
    nodes: usize,
    anchors: BTreeMap<usize, Node>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, usize), Broken> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => {
                let line = error.marker().line().min(self.last_line);
                Err(broken(line, format!("is not valid YAML: {}", error.info())))
            }
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    /// The node that `event` begins. The recursion is as deep as [`MAX_DEPTH`].
    fn node(&mut self, event: Event<'a>, line: usize, depth: usize) -> Result<Node, Broken> {
        self.count(1, line)?;
        if depth > MAX_DEPTH {
            return Err(broken(line, format!("is nested deeper than {MAX_DEPTH} levels")));
        }
        let (anchor, value) = match event {
            Event::Alias(anchor) => return self.alias(anchor, line),
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, Value::Scalar(scalar(text, style, tag.as_ref(), line)?))
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_foreign(tag.as_ref(), line)?;
                (anchor, self.list(depth)?)
            }
            Event::MappingStart(anchor, tag) => {
                refuse_foreign(tag.as_ref(), line)?;
                (anchor, self.map(depth)?)
            }
            _ => return Err(broken(line, "is not valid YAML: a value was expected here")),
        };
        let node = Node { line, value };
        if anchor != 0 {
            self.count(node.weight(), line)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Broken> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, line) => items.push(self.node(event, line, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Broken> {
        let mut entries = Vec::new();
        loop {
            let (key, line) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Value::Map(entries)),
                (Event::Scalar(text, ..), line) => (text.into_owned(), line),
                (_, line) => return Err(broken(line, "a key must be a plain word")),
            };
            let (event, value_line) = self.next()?;
            let value = self.node(event, value_line, depth + 1)?;
            entries.push(Entry { key, line, value });
        }
    }

    /// A copy of what the anchor stands for, counted before it is made.
    fn alias(&mut self, anchor: usize, line: usize) -> Result<Node, Broken> {
        let missing = || broken(line, "is an alias of nothing that ends before it");
        let weight = self.anchors.get(&anchor).ok_or_else(missing)?.weight();
        self.count(weight, line)?;
        let value = self.anchors.get(&anchor).ok_or_else(missing)?.value.clone();
        Ok(Node { line, value })
    }

    fn count(&mut self, nodes: usize, line: usize) -> Result<(), Broken> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(broken(line, format!("holds more than {MAX_NODES} values")));
        }
        Ok(())
    }
}

fn scalar(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Cow<'_, Tag>>,
    line: usize,
) -> Result<ScalarOwned, Broken> {
    refuse_foreign(tag, line)?;
    ScalarOwned::parse_from_cow_and_metadata(text, style, tag)
        .ok_or_else(|| broken(line, "the value does not fit its tag"))
}

/// Tags such as `!include` ask a reader to act; this one does not.
fn refuse_foreign(tag: Option<&Cow<'_, Tag>>, line: usize) -> Result<(), Broken> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => Err(broken(line, "tags are not accepted")),
        _ => Ok(()),
    }
}
