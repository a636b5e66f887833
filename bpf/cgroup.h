/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The identity of a cgroup. In v2 it is the inode number of its directory. Each v1 hierarchy
 * numbers its own directories, so the hierarchy's number stands above it; v2's is 0, and a
 * directory's number would reach these bits after 2^47 others.
 */
#ifndef RAQIB_CGROUP_H
#define RAQIB_CGROUP_H

#include "common.h"

#define HIERARCHY_SHIFT 48

static __always_inline __u64 cgroup_number(struct cgroup *cgrp)
{
	__u64 hierarchy = BPF_CORE_READ(cgrp, root, hierarchy_id);

	return BPF_CORE_READ(cgrp, kn, id) | hierarchy << HIERARCHY_SHIFT;
}

/* The cgroup of one controller, if that is in a v1 hierarchy and not its root; else 0. */
static __noinline __u64 controller_cgroup(__u64 css_set, __u32 controller)
{
	__u64 at = css_set + bpf_core_field_offset(struct css_set, subsys) + controller * 8;
	struct cgroup_subsys_state *state = NULL;
	struct cgroup *cgrp;

	bpf_probe_read_kernel(&state, sizeof(state), (const void *)at);
	if (!state)
		return 0;
	cgrp = BPF_CORE_READ(state, cgroup);
	if (!BPF_CORE_READ(cgrp, level) || !BPF_CORE_READ(cgrp, root, hierarchy_id))
		return 0;
	return cgroup_number(cgrp);
}

/*
 * Where v2 has no controllers, runtimes put their processes into v1 hierarchies, and not all of
 * them into v2 as well. Any one will do that the task is in: those that runtimes use, in turn.
 */
static __noinline __u64 cgroup1_of(__u64 css_set)
{
	__u64 found = 0;

#define TRY(name)                                                                              \
	if (!found && bpf_core_enum_value_exists(enum cgroup_subsys_id, name##_cgrp_id))       \
		found = controller_cgroup(css_set, bpf_core_enum_value(enum cgroup_subsys_id,  \
								       name##_cgrp_id))
	TRY(memory);
	TRY(pids);
	TRY(devices);
	TRY(cpu);
	TRY(freezer);
#undef TRY
	return found;
}

#endif
