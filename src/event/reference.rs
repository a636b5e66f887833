//! The page on activities: docs/activities.md, made from the table.

use std::fmt::Write as _;

use super::activity::{ACTIVITIES, Kind, Part, Show};
use super::words::Words;

const INTRO: &str = "\
# Activities

What a process does to something that is neither a file nor a flow: one row for each (process image, activity,
outcome, details that tell one from another), repeats counted. Recipes of `mechanism: activity` match them
(`docs/recipes.md`), alerts tell them as `activity` (`docs/alerts.md`). This page is made from the table in
`src/event/activity.rs`.

Attempts that failed are told with their error; not those that go on or are tried again (EINPROGRESS, EINTR,
EAGAIN), nor calls that the kernel does not have (ENOSYS).

";

/// Markdown for all activities.
pub fn reference() -> String {
    let mut page = INTRO.to_owned();
    page.push_str("| activity | area | what it is | details |\n|---|---|---|---|\n");
    for kind in ACTIVITIES {
        let details = details(kind).join(", ");
        // Writing to a String cannot fail.
        let _ =
            writeln!(page, "| {} | {} | {} | {details} |", kind.name, kind.area.name(), kind.doc);
    }
    page.push_str(
        "\n## Words\n\nWords of one number are alternatives, those of a set are joined by `|`.\n\n",
    );
    for kind in ACTIVITIES {
        for (label, show) in [kind.a, kind.b].into_iter().flatten() {
            let (how, words) = match show {
                Show::Word(words) => ("one", words),
                Show::Bits(words) => ("set", words),
                Show::Number | Show::Hex => continue,
            };
            let _ = writeln!(page, "- {}, {label} ({how}): {}", kind.name, named(words));
        }
    }
    page
}

fn named(words: Words) -> String {
    words.iter().map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
}

fn details(kind: &Kind) -> Vec<String> {
    let number = |part: Part| {
        part.map(|(label, show)| match show {
            Show::Number => format!("{label} (number)"),
            Show::Hex => format!("{label} (hex)"),
            Show::Word(_) => format!("{label} (word)"),
            Show::Bits(_) => format!("{label} (set)"),
        })
    };
    let numbers = [number(kind.a), number(kind.b)].into_iter().flatten();
    let known: Vec<&str> = [kind.a, kind.b].into_iter().flatten().map(|(label, _)| label).collect();
    let rest = kind.labels().into_iter().filter(|label| !known.contains(label));
    numbers.chain(rest.map(str::to_owned)).collect()
}
