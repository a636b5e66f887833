// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * DNS answers as they arrive, and what clients say first: the bytes, not their meaning. A parser of hostile input belongs
 * where it can be fuzzed, bounded and mended without a verifier: in user space.
 */
#include "net.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

TABLE(payload_rows, 2, payload_key, payload_row);

/* Too large for the stack. Packets come in with softirqs off: one at a time on a CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct payload_row);
} payload_drafts SEC(".maps");

static __always_inline __u64 hash_flow(const struct flow_key *flow)
{
	const __u64 *words = (const __u64 *)&flow->local;
	__u64 hash = 0;

#pragma clang loop unroll(full)
	for (int word = 0; word < 6; word++)
		hash = mix(hash, words[word]);
	return hash;
}

static __always_inline void put(struct __sk_buff *skb, struct packet *packet, struct payload_row *row)
{
	bool hello = packet->kind == PAYLOAD_HELLO;
	struct payload_key key = { .task = packet->flow.task, .seq = packet->seq - packet->start };
	__u32 chunks = hello ? PAYLOAD_CHUNKS : DNS_CHUNKS;
	struct payload_row *there;
	struct stay stay;
	void *rows;

	if (!enter(&stay, J_NETWORK_PEERS))
		return;
	rows = bpf_map_lookup_elem(&payload_rows, &stay.slot);
	row->flow = packet->flow;
	row->first_ns = bpf_ktime_get_boot_ns();
	key.flow = hash_flow(&packet->flow);
	/*
	 * A segment that comes again has the same number. Nothing in a datagram tells it from
	 * another: the checksum of one that never left the host covers its length only, and the
	 * message id is the sender's choice. So each is its own.
	 */
	if (packet->flow.protocol == IPPROTO_UDP)
		key.flow = mix(key.flow, row->first_ns);
	/* One port may be used for two connections in an epoch: told apart by their numbers. */
	if (hello)
		key.flow = mix(key.flow, packet->start);
	row->kind = packet->kind;
	row->payload = packet->length;
	row->count = 0;
#pragma clang loop unroll(disable)
	for (__u32 chunk = 0; chunk < PAYLOAD_CHUNKS; chunk++) {
		__u32 from = chunk * PAYLOAD_CHUNK, length;

		if (chunk >= chunks || from >= packet->length)
			break;
		length = packet->length - from;
		if (length > PAYLOAD_CHUNK)
			length = PAYLOAD_CHUNK;
		/* Not 0, as has just been seen, but verifiers before Linux 6.2 want it shown. */
		length--;
		barrier_var(length);
		length = (length & 1023) + 1;
		if (length > PAYLOAD_CHUNK)
			return;
		count_events(&stay, 1);
		key.chunk = chunk;
		row->length = length;
		there = NULL;
		if (rows && !bpf_skb_load_bytes(skb, packet->payload + from, row->bytes, length))
			there = find_or_make(&stay, rows, &key, row);
		if (there)
			__sync_fetch_and_add(&there->count, 1);
		else
			count_refused(&stay, 1);
	}
	if (packet->length > chunks * PAYLOAD_CHUNK)
		__sync_fetch_and_add(&stay.ledger->text_refused, 1);
}

int record_payload(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct payload_row *row = bpf_map_lookup_elem(&payload_drafts, &zero);
	struct packet *packet = bpf_map_lookup_elem(&packets, &zero);

	if (row && packet)
		put(skb, packet, row);
	return 0;
}
