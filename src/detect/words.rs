//! Words in messages: shortened, listed, and the one that was probably meant.

/// At most 60 characters of a text from a file, for a message on one line.
pub(crate) fn clip(text: &str) -> String {
    let mut short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    short
}

pub(crate) fn one_of(names: &[&str]) -> String {
    match names {
        [one] => format!("`{one}`"),
        _ if names.len() > 24 => format!("one of {} names (see docs/recipes.md)", names.len()),
        _ => format!("one of {}", names.join(", ")),
    }
}

/// The known name that was probably meant: at most a third of its letters differ.
pub(crate) fn closest<'k>(text: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    if text.len() > 60 {
        return None;
    }
    known
        .map(|name| (distance(text, name), name))
        .filter(|(distance, name)| *distance <= name.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Letters to insert, remove, replace or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replace = row[j] + usize::from(x != y);
            let mut best = replace.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_name_is_suggested() {
        let known = ["file_actions", "file_actions_excl", "base", "bases"];
        assert_eq!(closest("file_action", known.into_iter()), Some("file_actions"));
        assert_eq!(closest("bsae", known.into_iter()), Some("base"));
        assert_eq!(closest("bas", known.into_iter()), Some("base"));
        assert_eq!(closest("colour", known.into_iter()), None);
    }
}
