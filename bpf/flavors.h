/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Kernel types that vmlinux.h, which is one kernel's, does not have, or has in another shape;
 * each with the change that made it necessary. CO-RE finds the kernel's own by name.
 */
#ifndef RAQIB_FLAVORS_H
#define RAQIB_FLAVORS_H

#include "vmlinux.h"

/*
 * Linux 7.0, "tracing: Guard __DECLARE_TRACE() use of __DO_TRACE_CALL() with SRCU-fast": the
 * guard's type came with its only user, so a kernel that has it runs tracepoints preemptibly.
 * The content does not matter.
 */
typedef struct class_srcu_fast_notrace {
	void *lock;
} class_srcu_fast_notrace_t;

#endif
