//! Whether kernel functions can be hooked: the object tier stands on that.
//!
//! Configuration does not tell: kernels that have everything built in refuse it by policy. So a
//! program of two instructions is loaded for a function, attached and taken off again.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libbpf_rs::libbpf_sys::{
    BPF_PROG_TYPE_TRACING, BPF_TRACE_FENTRY, bpf_insn, bpf_prog_load, bpf_prog_load_opts,
    bpf_raw_tracepoint_open, libbpf_find_vmlinux_btf_id,
};

/// Every kernel of the range has it, and what the object tier hooks is of its kind.
const TARGET: &CStr = c"security_file_open";

/// How far the attempt came, and the kernel's error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub step: &'static str,
    pub errno: i32,
}

/// Error numbers that this attempt is known to end with: name, and what it means here.
const MEANINGS: &[(i32, &str, &str)] = &[
    (
        libc::EPERM,
        "EPERM",
        "the rights are missing (CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN), or this kernel lets \
         nobody patch its functions; then only another kernel helps",
    ),
    (libc::EACCES, "EACCES", "a security module or lockdown forbids it"),
    (libc::ENOENT, "ENOENT", "the function is not in the kernel's BTF"),
    (libc::ESRCH, "ESRCH", "the function is not in the kernel's BTF"),
    (
        libc::EINVAL,
        "EINVAL",
        "the kernel is built without it: CONFIG_FUNCTION_TRACER=y, CONFIG_DYNAMIC_FTRACE=y and \
         CONFIG_BPF_EVENTS=y are needed",
    ),
    (
        libc::ENODEV,
        "ENODEV",
        "function tracing is switched off: sysctl -w kernel.ftrace_enabled=1, or it has stopped \
         itself after a fault (dmesg)",
    ),
    (
        libc::EBUSY,
        "EBUSY",
        "function tracing is switched off (sysctl -w kernel.ftrace_enabled=1), or something that \
         cannot share has hooked the function, as a live patch",
    ),
    (libc::EOPNOTSUPP, "EOPNOTSUPP", "this architecture's kernel has no BPF trampolines"),
    // Not in libc: the kernel's own number, which should not reach user space and does.
    (
        524,
        "ENOTSUPP",
        "this kernel has no BPF trampolines: CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS=y and \
         CONFIG_BPF_JIT=y are needed",
    ),
];

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = MEANINGS.iter().find(|(errno, ..)| *errno == self.errno);
        match known {
            Some((errno, name, meaning)) => {
                write!(f, "refused at {} with {name} ({errno}): {meaning}", self.step)
            }
            None => {
                let error = io::Error::from_raw_os_error(self.errno);
                write!(f, "refused at {}: {error}", self.step)
            }
        }
    }
}

/// Loads, attaches and removes a program at a function's entry.
///
/// # Errors
/// The step that the kernel refused.
pub fn attempt() -> Result<(), Refused> {
    // libbpf returns what system calls do, but negated: the error number itself.
    let checked = |step, code: i32| match code {
        code if code < 0 => Err(Refused { step, errno: -code }),
        code => Ok(code),
    };
    // SAFETY: the name ends with a zero and is not kept.
    let found = unsafe { libbpf_find_vmlinux_btf_id(TARGET.as_ptr(), BPF_TRACE_FENTRY) };
    let function = checked("look-up", found)?;
    // r0 = 0; exit
    let nothing = [0xb7, 0x95].map(|code| bpf_insn { code, ..Default::default() });
    let mut options = bpf_prog_load_opts {
        sz: size_of::<bpf_prog_load_opts>() as _,
        expected_attach_type: BPF_TRACE_FENTRY,
        attach_btf_id: function.unsigned_abs(),
        ..Default::default()
    };
    // SAFETY: name, licence, instructions and options live through the call, which keeps none
    // of them; the count is that of the instructions.
    let loaded = unsafe {
        bpf_prog_load(
            BPF_PROG_TYPE_TRACING,
            c"raqib_doctor".as_ptr(),
            c"GPL".as_ptr(),
            nothing.as_ptr(),
            nothing.len() as _,
            &raw mut options,
        )
    };
    let program = own(checked("load", loaded)?);
    // SAFETY: the descriptor is open; no name means the function given at load.
    let attached = unsafe { bpf_raw_tracepoint_open(std::ptr::null(), program.as_raw_fd()) };
    // Closing what it returns detaches.
    own(checked("attach", attached)?);
    Ok(())
}

fn own(fd: i32) -> OwnedFd {
    // SAFETY: the kernel has just given this descriptor to us alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_number_is_told_with_what_it_means() {
        let refused = Refused { step: "load", errno: libc::EPERM };
        let text = refused.to_string();
        assert!(text.starts_with("refused at load with EPERM (1): "), "{text}");
        let odd = Refused { step: "attach", errno: libc::E2BIG }.to_string();
        assert!(odd.contains("os error 7"), "{odd}");
    }

    #[test]
    fn each_number_is_explained_once() {
        let mut numbers: Vec<i32> = MEANINGS.iter().map(|(errno, ..)| *errno).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), MEANINGS.len());
    }
}
