//! Why the kernel did not take a program: libbpf says so only by printing.
//!
//! A verifier's log is pages long and addressed to whoever wrote the program. What a user needs of
//! it is the program's name and the last line; the whole is in the debug log.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use libbpf_rs::PrintLevel;

/// A program that the kernel does not take, and its own word for why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub program: String,
    pub reason: String,
}

impl Refusal {
    /// How the reason begins where the kernel's types show that trying would be in vain.
    pub const NO_NAME: &str = "it has no ";

    /// Whether nothing was tried.
    pub fn untried(&self) -> bool {
        self.reason.starts_with(Self::NO_NAME)
    }

    pub fn new(program: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { program: program.into(), reason: reason.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this kernel does not take {} ({})", self.program, self.reason)
    }
}

/// libbpf's warnings since the last [`heard`]. One loads at a time, but printing is global.
static WARNINGS: Mutex<String> = Mutex::new(String::new());

/// Sends what libbpf prints to the log, and keeps its warnings for [`heard`].
pub fn listen() {
    libbpf_rs::set_print(Some((PrintLevel::Debug, |level, text| {
        if matches!(level, PrintLevel::Warn) {
            log::debug!("libbpf: {}", text.trim_end());
            WARNINGS.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
        } else {
            log::trace!("libbpf: {}", text.trim_end());
        }
    })));
}

/// The program that the warnings since the last call are about; they are forgotten.
pub fn heard() -> Option<Refusal> {
    let text = std::mem::take(&mut *WARNINGS.lock().unwrap_or_else(PoisonError::into_inner));
    parse(&text)
}

/// The verifier's closing figures: true, and no reason.
const FIGURES: [&str; 3] = ["processed ", "verification time ", "stack depth "];

fn parse(text: &str) -> Option<Refusal> {
    let program = text.rsplit_once("prog '")?.1.split_once('\'')?.0;
    let log = text.rsplit_once("-- BEGIN PROG LOAD LOG --").map(|(_, log)| log);
    let verdict = log.and_then(|log| {
        let log = log.split("-- END PROG LOAD LOG --").next().unwrap_or_default();
        let mut lines = log.lines().map(str::trim).rev();
        lines.find(|line| !line.is_empty() && !FIGURES.iter().any(|word| line.starts_with(word)))
    });
    // Without a log it never came to the verifier: an attach point that is not there, say.
    let said = || {
        let first = text.split_once(&format!("prog '{program}': "));
        first.and_then(|(_, said)| said.lines().next())
    };
    let reason = verdict.or_else(said).unwrap_or("it does not say why");
    Some(Refusal { program: program.to_owned(), reason: reason.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifiers_last_line_is_the_reason() {
        let text = "libbpf: prog 'prime_sockets': BPF program load failed: -EINVAL\n\
                    libbpf: prog 'prime_sockets': -- BEGIN PROG LOAD LOG --\n\
                    0: (79) r6 = *(u64 *)(r1 +8)\n\
                    invalid func unknown#162\n\
                    verification time 941 usec\n\
                    stack depth 0\n\
                    processed 10 insns (limit 1000000)\n\
                    -- END PROG LOAD LOG --\n\
                    libbpf: prog 'prime_sockets': failed to load: -EINVAL\n\
                    libbpf: failed to load object 'raqib_bpf'\n";
        let refusal = parse(text).expect("a refusal");
        assert_eq!(refusal.program, "prime_sockets");
        assert_eq!(refusal.reason, "invalid func unknown#162");
        assert!(!refusal.to_string().contains('\n'));
    }

    #[test]
    fn a_program_without_its_attach_point_never_came_to_the_verifier() {
        let text = "libbpf: prog 'a': failed to find kernel BTF type ID of 'b': -ESRCH\n\
                    libbpf: prog 'a': failed to prepare load attributes: -ESRCH\n";
        let refusal = parse(text).expect("a refusal");
        assert_eq!(refusal.reason, "failed to find kernel BTF type ID of 'b': -ESRCH");
    }

    #[test]
    fn what_is_not_about_a_program_is_nobodys_refusal() {
        assert_eq!(parse("libbpf: map 'rows': failed to create: -ENOMEM\n"), None);
        assert_eq!(parse(""), None);
    }
}
