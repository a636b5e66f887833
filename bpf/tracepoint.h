/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Programs at tracepoints have their CPU to themselves: their drafts are per CPU.
 *
 * The kernel gave them that until 6.19. From 7.0 on it guards tracepoints by SRCU instead of
 * turning preemption off, and a program that loses its CPU in the middle costs twice: another
 * one writes over its drafts, and each further run of the same program on that CPU is skipped
 * until it goes on. So it is turned off here, with the program's first instruction.
 *
 * Turning it on again is where a switch that fell due meanwhile would be made up for, with the
 * run not over yet in the kernel's books: all runs on that CPU would be skipped for a time slice.
 * With interrupts off the kernel leaves that to the next occasion, which is after the run.
 * What is left are the moments before the first instruction and after the last; the runs that they
 * cost are `missed` in `raqib status`.
 */
#ifndef RAQIB_TRACEPOINT_H
#define RAQIB_TRACEPOINT_H

#include "flavors.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

extern void bpf_preempt_disable(void) __ksym __weak;
extern void bpf_preempt_enable(void) __ksym __weak;
extern void bpf_local_irq_save(unsigned long *flags) __ksym __weak;
extern void bpf_local_irq_restore(unsigned long *flags) __ksym __weak;

#define PREEMPTIBLE bpf_core_type_exists(class_srcu_fast_notrace_t)

static __always_inline void hold_cpu(void)
{
	if (PREEMPTIBLE)
		bpf_preempt_disable();
}

static __always_inline void release_cpu(void)
{
	if (PREEMPTIBLE) {
		unsigned long flags;

		bpf_local_irq_save(&flags);
		bpf_preempt_enable();
		bpf_local_irq_restore(&flags);
	}
}

/* As BPF_PROG of libbpf: the arguments by their types. What the body returns is of no matter. */
#define TRACEPOINT(name, args...)                                                              \
	int name(unsigned long long *ctx);                                                     \
	static __always_inline int name##_body(unsigned long long *ctx, ##args);               \
	int name(unsigned long long *ctx)                                                      \
	{                                                                                      \
		hold_cpu();                                                                    \
		_Pragma("GCC diagnostic push")                                                 \
		_Pragma("GCC diagnostic ignored \"-Wint-conversion\"")                         \
		name##_body(___bpf_ctx_cast(args));                                            \
		_Pragma("GCC diagnostic pop")                                                  \
		release_cpu();                                                                 \
		return 0;                                                                      \
	}                                                                                      \
	static __always_inline int name##_body(unsigned long long *ctx, ##args)

/* An argument as a number: the verifier would let a pointer neither cross functions nor be added to. */
static __always_inline __u64 argument(unsigned long long *ctx, int number)
{
	__u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), ctx + number);
	return value;
}

#endif
