//! The kernel side: what the host offers, the loaded object, and the hooks.

pub mod attach;
pub mod cgroups;
pub mod clock;
pub mod descriptors;
pub mod detached;
pub mod features;
pub mod hooks;
pub mod host;
pub mod load;
pub mod objects;
pub mod prime;
pub mod privileges;
pub mod programs;
pub mod refusal;
pub mod trampoline;

/// Generated from `bpf/` by `build.rs`: programs, maps, and the types of `bpf/types.h`.
#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::redundant_closure_for_method_calls,
    clippy::wildcard_imports,
    clippy::uninlined_format_args,
    unsafe_op_in_unsafe_fn,
    missing_debug_implementations,
    unreachable_pub,
    reason = "generated"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/raqib.skel.rs"));
}

pub use generated::types;
pub use generated::{OpenRaqibSkel, RaqibSkel, RaqibSkelBuilder};

/// Types of `bpf/types.h` that are read from and written to maps as bytes.
macro_rules! plain {
    ($($name:ident),+ $(,)?) => { $(
        // SAFETY: integers and arrays of integers only, no padding (asserted in bpf/types.h):
        // every bit pattern of the right length is a valid value.
        unsafe impl plain::Plain for types::$name {}
    )+ };
}

plain! {
    activity_key, activity_row, bell, cgroup_key, cgroup_row, cgroup_text_key, payload_key, payload_row, entry_row, env_key, env_name, env_row, exec_row, file_key, file_row, fill,
    flow_key, flow_row, ledger, limits, node_key, path_node, prime_task, sock_owner, task_key, text_key,
    text_row,
}

impl From<types::task_key> for crate::event::TaskKey {
    fn from(key: types::task_key) -> Self {
        Self { start_ns: key.start_ns, tgid: key.tgid, exec_id: key.exec_id }
    }
}
