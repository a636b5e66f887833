//! What the kernel says of our programs.

use libbpf_rs::query::ProgInfoIter;
use serde_json::{Value, json};

use super::hooks::HOOKS;

/// Our attached programs with the runs that the kernel skipped because one was running already
/// on that CPU (a loss that no ledger can see, so it is shown beside them) and, with
/// kernel.bpf_stats_enabled, their run time. Another daemon's programs of the same name are
/// listed as well: the kernel does not say whose they are.
pub fn own() -> Vec<Value> {
    let ways = HOOKS.iter().flat_map(|hook| hook.ways);
    let names: Vec<&str> = ways.flat_map(|way| way.programs).copied().collect();
    ProgInfoIter::default()
        .filter_map(|program| {
            let name = program.name.to_str()?;
            // The kernel keeps 15 characters of a name.
            let ours = names.iter().find(|own| {
                own.starts_with(name) && (name.len() == 15 || own.len() == name.len())
            })?;
            Some(json!({
                "name": ours,
                "id": program.id,
                "missed": program.recursion_misses,
                "runs": program.run_cnt,
                "run_ns": program.run_time_ns,
            }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_keeps_of_a_name_tells_programs_apart() {
        let ways = HOOKS.iter().flat_map(|hook| hook.ways);
        let mut names: Vec<&str> = ways.flat_map(|way| way.programs).copied().collect();
        names.sort_unstable();
        names.dedup();
        let kept = |name: &str| name.chars().take(15).collect::<String>();
        assert!(names.windows(2).all(|pair| kept(pair[0]) != kept(pair[1])), "{names:?}");
    }
}
