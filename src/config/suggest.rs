//! "Did you mean": the nearest of the names that would have been right.

use super::keys::KEYS;

/// Longer words are not compared: no key is as long, and the comparison is quadratic.
const LONGEST: usize = 40;

/// Hyphen and underscore are the same letter in keys and names of lists.
pub(super) fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// The candidate nearest to `name`, if it is near enough to be a slip: a third of its letters.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let name = normal(&name.to_lowercase());
    let allowed = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&name, &normal(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A key of this name in another section.
pub(super) fn elsewhere(name: &str) -> Option<&'static str> {
    let last = |path: &'static str| path.rsplit('.').next().unwrap_or(path);
    let name = normal(name);
    KEYS.iter().map(|key| key.path).find(|path| normal(last(path)) == name)
}

/// Insertions, deletions, replacements and swaps of neighbours that make `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let mut best = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_found_and_a_stranger_is_not() {
        let known = ["log-level", "profiler", "health"];
        assert_eq!(nearest("log-levle", known), Some("log-level"));
        assert_eq!(nearest("Log_Level", known), Some("log-level"));
        assert_eq!(nearest("helth", known), Some("health"));
        assert_eq!(nearest("sandwich", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest(&"log-level".repeat(9), known), None);
    }

    #[test]
    fn a_key_of_another_section_is_found() {
        assert_eq!(elsewhere("file_access"), Some("cadences.file-access"));
        assert_eq!(elsewhere("sandwich"), None);
    }

    #[test]
    fn a_swap_is_one_slip() {
        assert_eq!(distance("levle", "level"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
