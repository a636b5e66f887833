//! Small values as JSON strings, written without an intermediate copy: an argument list may be
//! megabytes long and stands in several alerts at once.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use crate::text::Text;

/// What consumers expect where there is no time (yet).
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// RFC 3339 in UTC with nanoseconds; the zero time for none.
#[derive(Clone, Copy, Debug)]
pub struct Stamp(pub Option<SystemTime>);

/// Years 1970 to 9999, as RFC 3339 has four digits and the formatter panics before 1970: a
/// clock that is wrong must not cost an alert.
pub fn in_range(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + since.min(Duration::from_secs(253_402_300_799))
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => humantime::format_rfc3339_nanos(in_range(time)).fmt(f),
            None => f.write_str(ZERO_TIME),
        }
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Bytes as lower-case hex.
#[derive(Clone, Copy, Debug)]
pub struct Hex<'a>(pub &'a [u8]);

impl<'a> Hex<'a> {
    /// For the field beside a text that is not exact.
    pub fn raw(text: &'a Text) -> Option<Self> {
        text.raw().map(Self)
    }
}

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        for &byte in self.0 {
            let digits = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
            f.write_str(std::str::from_utf8(&digits).unwrap_or_default())?;
        }
        Ok(())
    }
}

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Arguments in one string, with a space between each two.
pub struct Joined<'a>(pub &'a [Text]);

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, text) in self.0.iter().enumerate() {
            f.write_str(if at > 0 { " " } else { "" })?;
            f.write_str(text.as_str())?;
        }
        Ok(())
    }
}

impl Serialize for Joined<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Arguments as a vector: the only form that tells `a b` from `a`, `b`.
pub struct List<'a>(pub &'a [Text]);

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Text::as_str))
    }
}

/// The exact bytes of each argument, in hex.
pub struct HexList<'a>(&'a [Text]);

impl<'a> HexList<'a> {
    /// None where the text of all of them is exact.
    pub fn raw(args: &'a [Text]) -> Option<Self> {
        args.iter().any(|arg| arg.raw().is_some()).then_some(Self(args))
    }
}

impl Serialize for HexList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|arg| Hex(arg.bytes())))
    }
}

/// For flags that are written only when they hold.
pub fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nanoseconds_and_never_panic() {
        let time = UNIX_EPOCH + Duration::new(1_700_000_000, 5);
        assert_eq!(Stamp(Some(time)).to_string(), "2023-11-14T22:13:20.000000005Z");
        assert_eq!(Stamp(None).to_string(), ZERO_TIME);
        let early = UNIX_EPOCH - Duration::from_secs(9);
        assert_eq!(Stamp(Some(early)).to_string(), "1970-01-01T00:00:00.000000000Z");
        let late = UNIX_EPOCH + Duration::from_secs(1 << 50);
        assert!(Stamp(Some(late)).to_string().starts_with("9999-12-31T23:59:59"));
    }

    #[test]
    fn raw_forms_are_there_only_when_needed() {
        let args = [Text::new(b"a"), Text::new(b"\xff\n")];
        assert!(HexList::raw(&args[..1]).is_none());
        let list = HexList::raw(&args).map(|list| serde_json::to_string(&list).unwrap());
        assert_eq!(list.as_deref(), Some(r#"["61","ff0a"]"#));
        assert_eq!(serde_json::to_string(&Joined(&args)).unwrap(), r#""a \\xff\n""#);
    }
}
