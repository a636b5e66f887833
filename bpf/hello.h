/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a client says first on a connection: where a TLS ClientHello or an HTTP request names the
 * server. Followed from the SYN that this host sent, so that a server's answer is never taken for
 * a client's word and the stream's start is known; until the other side answers, or as much
 * was seen as is kept. Then the state in the socket's owner is 0 again.
 */
#ifndef RAQIB_HELLO_H
#define RAQIB_HELLO_H

#include "net.h"

#define TLS_HANDSHAKE 0x16
#define TLS_MAJOR 3
#define TLS_CLIENT_HELLO 1

static __always_inline bool begins(__u8 tcp_flags)
{
	return (tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

static __always_inline void hand_on(struct __sk_buff *skb, struct packet *packet)
{
	__u32 zero = 0;
	struct packet *handed = bpf_map_lookup_elem(&packets, &zero);

	if (!handed)
		return;
	*handed = *packet;
	record_payload(skb);
}

/*
 * Bytes from the start that are worth keeping, by the first ones; 0: neither TLS nor HTTP. A
 * writer of single bytes is judged by those that are there: user space sees the rest.
 */
static __always_inline __u32 hello_wants(struct __sk_buff *skb, struct packet *packet)
{
	__u8 head[16] = {};
	__u32 length = packet->length, record, message;

	if (!length)
		return 0;
	if (length > 9)
		length = 9;
	/* Not 0, as has just been seen, but verifiers before Linux 6.2 want it shown. */
	length--;
	barrier_var(length);
	length = (length & 15) + 1;
	if (bpf_skb_load_bytes(skb, packet->payload, head, length))
		return 0;
	if (head[0] == TLS_HANDSHAKE) {
		if ((length > 1 && head[1] != TLS_MAJOR) ||
		    (length > 5 && head[5] != TLS_CLIENT_HELLO))
			return 0;
		record = head[3] << 8 | head[4];
		message = head[6] << 16 | head[7] << 8 | head[8];
		/* Whole in its record, as nearly always: nothing behind it is of interest. */
		if (length > 8 && message + 4 <= record && record + 5 < HELLO_TLS_BYTES)
			return record + 5;
		return HELLO_TLS_BYTES;
	}
	/* Servers skip an empty line before the request. */
	if (head[0] == '\r' || head[0] == '\n')
		return HELLO_HTTP_BYTES;
	/* All registered methods are of three capitals and more. */
#pragma clang loop unroll(full)
	for (int at = 0; at < 3; at++)
		if (at < length && (head[at] < 'A' || head[at] > 'Z'))
			return 0;
	return HELLO_HTTP_BYTES;
}

static __always_inline void look_at_hello(struct __sk_buff *skb, struct sock_owner *owner,
					  struct packet *packet, bool out)
{
	__u32 at;

	if (out && begins(packet->tcp_flags)) {
		owner->hello = HELLO_AWAITED;
		/* The SYN counts as one; with fast open its payload comes behind it. */
		owner->hello_start = ++packet->seq;
	}
	if (!packet->length)
		return;
	if (!out) {
		/* It has answered. A server that speaks first has not: the client's word comes. */
		if (owner->hello == HELLO_BEGUN)
			owner->hello = HELLO_NONE;
		return;
	}
	at = packet->seq - owner->hello_start;
	if (owner->hello == HELLO_AWAITED && !at) {
		owner->hello_wants = hello_wants(skb, packet);
		owner->hello = owner->hello_wants ? HELLO_BEGUN : HELLO_NONE;
	}
	if (owner->hello != HELLO_BEGUN || at >= owner->hello_wants)
		return;
	if (packet->length >= owner->hello_wants - at) {
		packet->length = owner->hello_wants - at;
		owner->hello = HELLO_NONE;
	}
	packet->kind = PAYLOAD_HELLO;
	packet->start = owner->hello_start;
	hand_on(skb, packet);
}

#endif
