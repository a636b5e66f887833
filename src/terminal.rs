//! Text that an attacker chose, made safe to show on a terminal.
//!
//! A file name may hold an escape sequence that recolours, retitles or rewrites what was printed
//! before, a newline that starts a line of its own, or a bidirectional override that makes
//! `exe.txt` of `txt.exe`. None of these may reach a terminal as it is.

use std::borrow::Cow;
use std::fmt::Write;

/// Characters that are not control characters for Unicode, but move or hide others: marks of
/// direction, zero widths, line separators, fillers, tags. Sorted, both ends included.
const DECEIVING: &[(char, char)] = &[
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Whether a character must not be shown as it is.
fn unsafe_to_show(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    let after = DECEIVING.partition_point(|&(first, _)| first <= character);
    let deceives = after.checked_sub(1).is_some_and(|at| character <= DECEIVING[at].1);
    character.is_control() || deceives
}

/// Replaces what is unsafe by `\n`, `\t`, `\r` or `\u{..}`; borrows where nothing is.
///
/// A backslash is left as it is, so the result cannot be turned back: the exact bytes are in the
/// JSON form.
pub fn escape(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(unsafe_to_show) else { return Cow::Borrowed(text) };
    let (clean, rest) = text.split_at(first);
    let mut shown = String::with_capacity(text.len() + 16);
    shown.push_str(clean);
    for character in rest.chars() {
        match character {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            '\r' => shown.push_str("\\r"),
            _ if unsafe_to_show(character) => {
                // Writing to a String cannot fail.
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(character));
            }
            _ => shown.push(character),
        }
    }
    Cow::Owned(shown)
}

/// The text in at most `max` characters: the middle, which says least of a path or a command,
/// gives way to an ellipsis.
pub fn shorten(text: &str, max: usize) -> Cow<'_, str> {
    // Bytes are at least as many as characters: no need to count those of a short text.
    if text.len() <= max || text.chars().nth(max).is_none() {
        return Cow::Borrowed(text);
    }
    let kept = max.saturating_sub(1);
    let (head, tail) = (kept - kept / 2, kept / 2);
    let mut shown: String = text.chars().take(head).collect();
    shown.push('…');
    let start = text.char_indices().rev().take(tail).last().map_or(text.len(), |(at, _)| at);
    shown.push_str(&text[start..]);
    Cow::Owned(shown)
}

/// Shortened, escaped, and in quotes where it holds a space or what our own lines are made of:
/// a command named `sshd(1) > bash` must not read like a lineage.
pub fn quote(text: &str, max: usize) -> String {
    let short = shorten(text, max);
    let shown = escape(&short);
    let plain = !shown.is_empty()
        && !shown.contains([' ', '"', '(', ')', '[', ']', '<', '>', '\u{a0}', '\u{3000}']);
    if plain { shown.into_owned() } else { format!("\"{}\"", shown.replace('"', "\\\"")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn clean_text_is_borrowed() {
        for text in ["", "/etc/passwd", "naïve café 日本 🦀", "C:\\x"] {
            assert!(matches!(escape(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn what_moves_the_cursor_or_the_text_is_escaped() {
        assert_eq!(escape("a\nb\tc\rd"), "a\\nb\\tc\\rd");
        assert_eq!(escape("\x1b[31mred\x07\x7f"), "\\u{1b}[31mred\\u{7}\\u{7f}");
        assert_eq!(escape("\u{9b}2J\u{85}"), "\\u{9b}2J\\u{85}");
        assert_eq!(escape("\u{202e}txt.exe\u{2066}"), "\\u{202e}txt.exe\\u{2066}");
        assert_eq!(
            escape("a\u{200b}\u{2028}\u{2029}\u{feff}"),
            "a\\u{200b}\\u{2028}\\u{2029}\\u{feff}"
        );
        assert_eq!(escape("\u{e0041}"), "\\u{e0041}");
    }

    #[test]
    fn the_middle_gives_way() {
        assert_eq!(shorten("abcdefgh", 8), "abcdefgh");
        assert_eq!(shorten("abcdefghi", 5), "ab…hi");
        assert_eq!(shorten("ééééé", 5), "ééééé");
        assert_eq!(shorten("éééééé", 4), "éé…é");
        assert_eq!(shorten("abc", 1), "…");
        assert_eq!(shorten("abc", 0), "…");
    }

    #[test]
    fn texts_that_look_like_our_lines_are_quoted() {
        assert_eq!(quote("bash", 9), "bash");
        assert_eq!(quote("sshd(1) > x", 20), "\"sshd(1) > x\"");
        assert_eq!(quote("a\"b", 9), "\"a\\\"b\"");
        assert_eq!(quote("", 9), "\"\"");
    }

    #[test]
    fn ranges_are_sorted_and_apart() {
        assert!(DECEIVING.iter().all(|(first, last)| first <= last));
        assert!(DECEIVING.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    proptest! {
        #[test]
        fn nothing_unsafe_survives(text in any::<String>(), max in 0usize..40) {
            prop_assert!(!escape(&text).contains(unsafe_to_show));
            prop_assert!(!escape(&text).chars().any(char::is_control));
            prop_assert!(!quote(&text, max).contains(unsafe_to_show));
        }

        #[test]
        fn every_unsafe_character_is_replaced(character in prop_oneof![
            (0u32..0xa0), (0x2000u32..0x2070), (0xfe00u32..0x10000), (0xe0000u32..0xe1000),
        ]) {
            let text: String = char::from_u32(character).into_iter().collect();
            prop_assert!(!escape(&text).contains(unsafe_to_show));
        }

        #[test]
        fn shortening_keeps_the_bound(text in any::<String>(), max in 1usize..40) {
            prop_assert!(shorten(&text, max).chars().count() <= max);
        }
    }
}
