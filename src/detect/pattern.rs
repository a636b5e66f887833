//! Regular expressions as recipes mean them: Go's RE2 dialect, unanchored, within bounds.
//!
//! Recipes that exist were written for Go, where `\d \w \s \b` are ASCII and `(?i)` is all that
//! Unicode does. Compiled for bytes without Unicode the `regex` crate agrees, and paths with
//! bytes that are no characters still match. Both engines run in linear time.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

/// Bytes of one pattern as written: its syntax tree is some hundred times larger.
const TEXT_MAX: usize = 64 << 10;
/// Compiled size allowed for one pattern.
const PATTERN_MAX: usize = 1 << 20;
/// Compiled size allowed for all patterns of one file: 4096 ordinary ones.
pub(crate) const FILE_MAX: usize = 64 << 20;
/// What the lazy automaton may cache, per pattern and thread that runs it.
const CACHE_MAX: usize = 256 << 10;

/// One compiled expression with the text that it was written as.
#[derive(Clone)]
pub struct Pattern {
    text: Box<str>,
    regex: Regex,
}

impl Pattern {
    /// Compiles; `budget` is what the file may still spend and shrinks.
    pub(crate) fn compile(text: &str, budget: &mut usize) -> Result<Self, String> {
        if text.len() > TEXT_MAX {
            return Err(format!("a regular expression of more than {TEXT_MAX} bytes"));
        }
        let translated = from_go(text);
        // The engine does not tell how large a compiled pattern is, only whether it fits. Trying
        // growing limits measures it within a factor of four. What does not fit in the end costs
        // as much as what does, for it took as long.
        let mut limit = PATTERN_MAX >> 6;
        loop {
            if limit > *budget {
                return Err("the regular expressions of this file together are too large".into());
            }
            match build(&translated, limit) {
                Ok(regex) => {
                    *budget -= limit;
                    return Ok(Self { text: text.into(), regex });
                }
                Err(regex::Error::CompiledTooBig(_)) if limit < PATTERN_MAX => limit <<= 2,
                Err(regex::Error::CompiledTooBig(_)) => {
                    *budget -= limit;
                    return Err(format!("needs more than {PATTERN_MAX} bytes when compiled"));
                }
                Err(error) => return Err(short(&error)),
            }
        }
    }

    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text.as_bytes())
    }

    /// As written in the recipe.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// ASCII classes first; a pattern that names Unicode itself (`\pL`, `[ä-ü]`) needs the other mode.
fn build(text: &str, limit: usize) -> Result<Regex, regex::Error> {
    let with = |unicode| {
        RegexBuilder::new(text)
            .unicode(unicode)
            .size_limit(limit)
            .dfa_size_limit(CACHE_MAX)
            .nest_limit(100)
            .build()
    };
    match with(false) {
        Err(ascii @ regex::Error::Syntax(_)) => with(true).map_err(|unicode| match unicode {
            regex::Error::CompiledTooBig(_) => unicode,
            _ => ascii,
        }),
        built => built,
    }
}

/// The last line of the engine's multi-line message says what is wrong.
fn short(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim();
    format!("not a regular expression: {}", last.strip_prefix("error: ").unwrap_or(last))
}

/// Writes what Go reads literally so that this engine reads it literally too: `\Q..\E`, a brace
/// that starts no repetition, and inside a class `[`, `&&`, `--`, `~~`.
fn from_go(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    let mut class = Class::Outside;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        if c == '\\' {
            rest = escape(after, &mut out);
            class.went_on();
            continue;
        }
        let inside = class != Class::Outside;
        match c {
            '[' if !inside => {
                class = Class::Start;
                out.push(c);
                rest = after.strip_prefix('^').map_or(after, |after| {
                    out.push('^');
                    after
                });
                continue;
            }
            '[' if after.starts_with(':') && after.contains(":]") => out.push(c),
            '[' => out.push_str("\\["),
            // POSIX names end with `:]`, which does not end the class.
            ']' if inside && out.ends_with(':') && posix_open(&out) => out.push(c),
            ']' if class == Class::Start => out.push_str("\\]"),
            ']' if inside => {
                class = Class::Outside;
                out.push(c);
                rest = after;
                continue;
            }
            '&' | '~' if inside => out.extend(['\\', c]),
            '-' if inside && after.starts_with('-') => out.push_str("\\-"),
            '{' if !inside && !is_repetition(after) => out.push_str("\\{"),
            _ => out.push(c),
        }
        class.went_on();
        rest = after;
    }
    out
}

#[derive(Clone, Copy, PartialEq)]
enum Class {
    Outside,
    /// Right after `[` or `[^`, where `]` is a character.
    Start,
    Inside,
}

impl Class {
    fn went_on(&mut self) {
        if *self == Self::Start {
            *self = Self::Inside;
        }
    }
}

/// Copies what follows a backslash; returns what is left.
fn escape<'t>(after: &'t str, out: &mut String) -> &'t str {
    if let Some(quoted) = after.strip_prefix('Q') {
        let (literal, rest) = quoted.split_once("\\E").unwrap_or((quoted, ""));
        out.push_str(&regex::escape(literal));
        return rest;
    }
    out.push('\\');
    match after.chars().next() {
        // `\<` and `\>` are word boundaries here and plain characters there.
        Some(c @ ('<' | '>')) => {
            out.pop();
            out.push(c);
            &after[1..]
        }
        Some(c) => {
            out.push(c);
            &after[c.len_utf8()..]
        }
        None => after,
    }
}

fn posix_open(out: &str) -> bool {
    out.rfind("[:").is_some_and(|at| {
        let name = out.get(at + 2..out.len() - 1).unwrap_or_default();
        !name.is_empty() && name.trim_start_matches('^').bytes().all(|b| b.is_ascii_lowercase())
    })
}

fn is_repetition(after: &str) -> bool {
    after.split_once('}').is_some_and(|(inside, _)| {
        inside.starts_with(|c: char| c.is_ascii_digit())
            && inside.bytes().all(|b| b.is_ascii_digit() || b == b',')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::compile(pattern, &mut { FILE_MAX }).expect("compiles").is_match(text)
    }

    #[test]
    fn classes_are_ascii_as_in_go() {
        assert!(matches(r"^\d+$", "12") && !matches(r"^\d+$", "١٢"));
        assert!(matches(r"^\w$", "a") && !matches(r"^\w$", "ä"));
        assert!(!matches(r"^\s$", "\u{a0}"));
        assert!(matches(r"\bx\b", "äx "), "ä is no word character in Go");
    }

    #[test]
    fn unanchored_and_end_of_text() {
        assert!(matches("etc", "/etc/passwd"));
        assert!(!matches("etc$", "/etc\n"));
    }

    #[test]
    fn what_go_reads_literally() {
        assert!(matches(r"^\Qa.b[\E$", "a.b["));
        assert!(matches("^a{$", "a{") && matches("^{,5}$", "{,5}") && matches("^a{2,3}$", "aa"));
        assert!(matches("^[[a]$", "[") && matches("^[]a]$", "]") && matches("^[^]]$", "a"));
        assert!(matches("^[a&&b]$", "&") && matches(r"^[[:alpha:]_]+$", "ab_"));
        assert!(matches(r"\<a\>", "<a>"));
    }

    #[test]
    fn non_ascii_literals_and_classes() {
        assert!(matches("^/tmp/ü$", "/tmp/ü") && matches("^[ä-ü]$", "ö") && matches(r"^\pL$", "ö"));
    }

    #[test]
    fn large_patterns_are_refused() {
        let mut budget = FILE_MAX;
        assert!(Pattern::compile("(?:a{1000}){1000}", &mut budget).is_err());
        assert!(Pattern::compile("[a-z", &mut budget).is_err());
        assert!(Pattern::compile("a", &mut 0).is_err());
    }

    proptest! {
        #[test]
        fn no_pattern_panics(text in "\\PC{0,60}") {
            let _ = Pattern::compile(&text, &mut { FILE_MAX });
        }

        #[test]
        fn no_pattern_of_metacharacters_panics(text in r"[\[\]\\(){}?*+|^$.:a&QE<>,1-]{0,40}") {
            let _ = Pattern::compile(&text, &mut { FILE_MAX });
        }
    }
}
