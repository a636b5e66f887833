// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Processes that were there before us, once at start: the same facts as a fork and an exec
 * give, with the kernel's own start times (/proc rounds them to ticks, and a key must not be
 * rounded). Paths and arguments come from /proc, where they are whole.
 */
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("iter/task")
int prime_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct prime_task prime = {};

	if (!task || task->pid != task->tgid)
		return 0;
	task_identity(task, &prime.task);
	task_identity(task->real_parent, &prime.parent);
	prime.row.fork_ns = prime.task.start_ns;
	describe_task(&prime.row, task);
	bpf_seq_write(ctx->meta->seq, &prime, sizeof(prime));
	return 0;
}
