/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* How the dispatcher of system calls hands one to the activities. */
#ifndef RAQIB_ACTIVITY_H
#define RAQIB_ACTIVITY_H

#include "common.h"

struct activity_args {
	__u64 at[8];
	__u32 variant; /* which of several calls for one activity: 1 takes a descriptor */
	__u32 pad;
};

/* Arguments go by a map: the verifier lets no pointer cross functions. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct activity_args);
} activity_calls SEC(".maps") __weak;

extern int record_call(__u32 activity, __s64 ret);
extern int record_activity(__u32 activity, __u64 a, __u64 b);
extern int record_netlink(__s32 fd, __u64 message);

#endif
