/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the network entities share: a packet's flow, and whose socket it belongs to. */
#ifndef RAQIB_NET_H
#define RAQIB_NET_H

#include "common.h"
#include <bpf/bpf_endian.h>

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define AF_INET 2
#define AF_INET6 10
#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16
#define DNS_PORT 53
#define IPPROTO_ICMPV6 58

/* Where a packet's parts are, from its network header on. */
struct packet {
	struct flow_key flow; /* the task is filled in by whoever knows the owner */
	__u32 payload; /* offset */
	__u32 length; /* of payload */
	__u32 seq; /* TCP: sequence number; UDP: checksum */
	__u8 tcp_flags;
	__u8 pad[3];
	__u32 kind; /* enum payload_kind */
	__u32 start; /* hello: sequence number of the conversation's first byte */
};

/*
 * What one entity hands to another's function: those take the context and numbers, no pointers
 * (Linux 5.12). Packets come in with softirqs off: one at a time on a CPU.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct packet);
} packets SEC(".maps") __weak;

/* Entities of the network call one another's facts through these; the packet is in `packets`. */
extern int record_payload(struct __sk_buff *skb);

#endif
