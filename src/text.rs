//! Bytes from the kernel, shown as text without losing any of them.
//!
//! Paths and arguments are bytes that an attacker chose. They become text once, here: what is
//! valid UTF-8 stays as it is, each other byte is written `\xNN`, and the exact bytes are kept
//! beside it when the two differ, so that output can always be valid JSON and still lossless.

use std::fmt;
use std::sync::Arc;

/// A byte string with its text form.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Text {
    shown: Arc<str>,
    raw: Option<Arc<[u8]>>,
}

impl Text {
    /// Takes the bytes as they are; NUL bytes are kept.
    pub fn new(bytes: &[u8]) -> Self {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return Self { shown: text.into(), raw: None };
        }
        let mut shown = String::with_capacity(bytes.len() + 16);
        for chunk in bytes.utf8_chunks() {
            shown.push_str(chunk.valid());
            for byte in chunk.invalid() {
                shown.push_str(&format!("\\x{byte:02x}"));
            }
        }
        Self { shown: shown.into(), raw: Some(bytes.into()) }
    }

    /// The text form: what recipes match and people read.
    pub fn as_str(&self) -> &str {
        &self.shown
    }

    /// The exact bytes, only where the text form is not exact.
    pub fn raw(&self) -> Option<&[u8]> {
        self.raw.as_deref()
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &[u8] {
        self.raw.as_deref().unwrap_or(self.shown.as_bytes())
    }

    pub fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }
}

impl Default for Text {
    fn default() -> Self {
        Self { shown: "".into(), raw: None }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self { shown: text.into(), raw: None }
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_text_is_kept_and_needs_no_raw_form() {
        let text = Text::new("/tmp/a\n\"ü".as_bytes());
        assert_eq!(text.as_str(), "/tmp/a\n\"ü");
        assert_eq!(text.raw(), None);
    }

    #[test]
    fn invalid_bytes_are_shown_and_kept() {
        let text = Text::new(b"/tmp/\xff\xfea");
        assert_eq!(text.as_str(), "/tmp/\\xff\\xfea");
        assert_eq!(text.raw(), Some(&b"/tmp/\xff\xfea"[..]));
        assert_eq!(text.bytes(), b"/tmp/\xff\xfea");
    }
}
