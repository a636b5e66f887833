/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Kernel memory, with one source for every kernel since 5.10.
 *
 * Since Linux 6.2 any address can be cast to a typed pointer (bpf_rdonly_cast) and read like a
 * struct: one load, and a bad address reads as zeros. Before, each step is a call of
 * bpf_probe_read_kernel. `get` writes both, behind a constant that libbpf fills in at load, and
 * the verifier removes the one that is not for this kernel: new kernels pay nothing for old ones.
 */
#ifndef RAQIB_READ_H
#define RAQIB_READ_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* Asked of the kernel's own table of the functions that its verifier treats apart. */
#define CASTS bpf_core_enum_value_exists(enum special_kfunc_type, KF_bpf_rdonly_cast)

/* Kernel memory by address, for `get` alone: what is behind the pointer depends on the kernel. */
#define kernel(address, type)                                                                  \
	({                                                                                     \
		struct type *typed__;                                                          \
		if (CASTS)                                                                     \
			typed__ = bpf_core_cast((const void *)(address), struct type);         \
		else                                                                           \
			typed__ = (struct type *)(address);                                    \
		typed__;                                                                       \
	})

/* The type of an expression's value: a field's own may be const, and nothing could be read to it. */
#define value_type(expression) typeof(({ expression; }))

/*
 * get(task, signal, tty): task->signal->tty. A pointer that came out of it may go into it.
 * The barriers keep the compiler from sharing a field's address, or the last load, between both
 * ways: the direct one would pay three instructions for what is one.
 */
#define get(pointer, ...)                                                                      \
	({                                                                                     \
		value_type(___arrow((pointer), __VA_ARGS__)) got__;                            \
		value_type(pointer) from__ = (pointer);                                        \
		if (CASTS) {                                                                   \
			got__ = ___arrow(from__, __VA_ARGS__);                                 \
		} else {                                                                       \
			typeof(got__) read__;                                                  \
			barrier_var(from__);                                                   \
			BPF_CORE_READ_INTO(&read__, from__, __VA_ARGS__);                      \
			got__ = read__;                                                        \
			barrier();                                                             \
		}                                                                              \
		got__;                                                                         \
	})

/*
 * A pointer in a field as a number, on all kernels alike: the verifier lets numbers, not
 * pointers, cross functions.
 */
#define address_in(pointer, ...)                                                               \
	({                                                                                     \
		__u64 address__ = 0;                                                           \
		BPF_CORE_READ_INTO(&address__, (pointer), __VA_ARGS__);                        \
		address__;                                                                     \
	})

/*
 * The task that is running; for `get`, on the paths that every open, read and write takes: the
 * kernel trusts the pointer, and loads its fields without asking whether it is one.
 */
static __always_inline struct task_struct *current_task(void)
{
	if (CASTS)
		return bpf_get_current_task_btf();
	return (struct task_struct *)bpf_get_current_task();
}

/*
 * The same for everything else. For each field behind a trusted pointer that is a pointer itself,
 * the verifier looks through all types of the kernel several times, by name: milliseconds each. So
 * arguments of tracepoints are better cast as well, where more than one such field is read. Not
 * in functions on the longest chain of calls: for kernels that cannot cast it costs a register.
 */
static __always_inline struct task_struct *untrusted_task(void)
{
	return kernel(bpf_get_current_task(), task_struct);
}

#endif
