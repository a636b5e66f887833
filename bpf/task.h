/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a task is: credentials, namespaces, terminal. For new rows and for the iterator. */
#ifndef RAQIB_TASK_H
#define RAQIB_TASK_H

#include "cgroup.h"

static __always_inline void describe_creds(struct exec_row *row, const struct cred *cred)
{
	row->uid = get(cred, uid.val);
	row->gid = get(cred, gid.val);
	row->euid = get(cred, euid.val);
	row->egid = get(cred, egid.val);
	row->ns_user = get(cred, user_ns, ns.inum);
	/* An array of two words before Linux 6.3, one long since: the same 8 bytes. */
	bpf_probe_read_kernel(&row->cap_effective, 8, &cred->cap_effective);
	bpf_probe_read_kernel(&row->cap_permitted, 8, &cred->cap_permitted);
	bpf_probe_read_kernel(&row->cap_inheritable, 8, &cred->cap_inheritable);
}

static __always_inline void describe_namespaces(struct exec_row *row, struct nsproxy *proxy,
						struct pid *pid)
{
	__u32 level = get(pid, level);
	struct upid upid = {};

	row->ns_mnt = get(proxy, mnt_ns, ns.inum);
	row->ns_uts = get(proxy, uts_ns, ns.inum);
	row->ns_ipc = get(proxy, ipc_ns, ns.inum);
	row->ns_net = get(proxy, net_ns, ns.inum);
	row->ns_cgroup = get(proxy, cgroup_ns, ns.inum);
	bpf_probe_read_kernel(&upid, sizeof(upid), &pid->numbers[level]);
	row->ns_pid = get(kernel(upid.ns, pid_namespace), ns.inum);
	/* The nearest thing to a container's start that every kernel knows. */
	if (level)
		row->image_ns = BPF_CORE_READ(upid.ns, child_reaper, group_leader,
					      start_boottime);
}

/* What a task is, whatever has just happened to it. */
static __always_inline void describe_task(struct exec_row *row, struct task_struct *task)
{
	struct tty_struct *tty = get(task, signal, tty);

	describe_creds(row, get(task, cred));
	describe_namespaces(row, get(task, nsproxy), get(task, thread_pid));
	row->ppid = get(task, real_parent, tgid);
	row->cgroup = get(task, cgroups, dfl_cgrp, kn, id);
	row->cgroup1 = cgroup1_of((__u64)get(task, cgroups));
	bpf_probe_read_kernel_str(row->comm, sizeof(row->comm), task->comm);
	if (tty)
		bpf_probe_read_kernel_str(row->tty, sizeof(row->tty), tty->name);
	row->loginuid = -1;
	row->sessionid = -1;
	if (bpf_core_field_exists(task->loginuid))
		row->loginuid = get(task, loginuid.val);
	if (bpf_core_field_exists(task->sessionid))
		row->sessionid = get(task, sessionid);
}

#endif
