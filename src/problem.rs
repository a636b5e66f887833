//! One mistake in a file that a person wrote, said so that it can be mended at once.

use std::fmt;

/// A mistake with its place. Loaders collect all of a file's before they give up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as the user named it; `built-in:` names what is embedded in the binary.
    pub file: String,
    /// From 1; 0 when the whole file is meant.
    pub line: usize,
    /// Dotted path of the key (`cadences.file-access`, `printers[2]`); empty for the whole file.
    pub key: String,
    /// What is wrong, what was expected.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}
