// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Conversations, from the packets that the sockets of this host send and receive.
 *
 * cgroup/skb programs see each packet of each socket below the cgroup they are attached to,
 * after the kernel has found the socket: the 5-tuple comes from the packet (so an IPv4-mapped
 * address is IPv4, and an unconnected datagram has its peer), the task from the socket. The
 * current task is no guide: most packets arrive in whoever's time slice it was.
 *
 * Whose a socket is: whoever created it (cgroup/sock_create), or accepted it (sys_exit).
 */
#include "net.h"
#include "hello.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

TABLE(flow_rows, 2, flow_key, flow_row);

/* Cloned, so that the child of a listener has an owner before anybody has accepted it. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct sock_owner);
} owners SEC(".maps");

/* How many claims there have ever been: a child that has looked since the last need not again. */
__u32 claims_made;

/* Accepted by whom, until the socket's next packet. A miss leaves the listener's owner. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct flow_key);
	__type(value, struct task_key);
} claims SEC(".maps");

static __always_inline struct flow_row *flow_row(struct stay *stay, const struct flow_key *key,
						 bool first_in)
{
	void *rows = bpf_map_lookup_elem(&flow_rows, &stay->slot);
	struct flow_row empty = { .marks[FLOW_FIRST_IN] = first_in };
	struct flow_row *row;

	count_events(stay, 1);
	row = rows ? bpf_map_lookup_elem(rows, key) : NULL;
	if (!row && rows) {
		empty.first_ns = bpf_ktime_get_boot_ns();
		empty.first_tick = bpf_jiffies64();
		row = make(stay, rows, key, &empty);
	}
	if (!row)
		count_refused(stay, 1);
	return row;
}

SEC("cgroup/sock_create")
int sock_create(struct bpf_sock *ctx)
{
	struct task_struct *task = current_task();
	struct sock_owner *owner;

	owner = bpf_sk_storage_get(&owners, ctx, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (owner) {
		task_identity(task, &owner->task);
		owner->cookie = bpf_get_socket_cookie(ctx);
		owner->netns = get(task, nsproxy, net_ns, ns.inum);
	}
	return 1;
}

/* Host order ports and addresses of an inet socket, with the same layout as from a packet. */
static __always_inline bool sock_flow(struct sock *sk, struct flow_key *key)
{
	__u16 family = get(sk, __sk_common.skc_family);
	struct in6_addr local, remote;
	bool mapped;

	key->protocol = get(sk, sk_protocol);
	key->local_port = get(sk, __sk_common.skc_num);
	key->remote_port = bpf_ntohs(get(sk, __sk_common.skc_dport));
	key->netns = get(sk, __sk_common.skc_net.net, ns.inum);
	if (family != AF_INET && family != AF_INET6)
		return false;
	BPF_CORE_READ_INTO(&local, sk, __sk_common.skc_v6_rcv_saddr);
	BPF_CORE_READ_INTO(&remote, sk, __sk_common.skc_v6_daddr);
	mapped = family == AF_INET6 && !local.in6_u.u6_addr32[0] &&
		 !local.in6_u.u6_addr32[1] &&
		 local.in6_u.u6_addr32[2] == bpf_htonl(0xffff);
	if (family == AF_INET || mapped) {
		key->family = 4;
		*(__u32 *)key->local = get(sk, __sk_common.skc_rcv_saddr);
		*(__u32 *)key->remote = get(sk, __sk_common.skc_daddr);
		return true;
	}
	key->family = 6;
	__builtin_memcpy(key->local, &local, 16);
	__builtin_memcpy(key->remote, &remote, 16);
	return true;
}

#define S_IFMT 0170000
#define S_IFSOCK 0140000

/* The current task accepted the connection behind this file. */
int record_accept(__u64 address)
{
	struct file *file = kernel(address, file);
	struct task_struct *task = current_task();
	struct flow_key key = {}, claimed;
	struct socket *socket;
	struct task_key owner;
	struct flow_row *row;
	struct stay stay;
	void *rows;

	if (!address || (get(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = kernel(get(file, private_data), socket);
	task_identity(task, &owner);
	if (owner.tgid == self_tgid || !sock_flow(get(socket, sk), &key) ||
	    !enter(&stay, J_NETWORK_FLOWS))
		return 0;
	rows = bpf_map_lookup_elem(&flow_rows, &stay.slot);
	key.task = owner;
	/* Its handshake is in our row: who accepts is who listened, as nearly always. */
	if (!rows || !bpf_map_lookup_elem(rows, &key)) {
		claimed = key;
		__builtin_memset(&claimed.task, 0, sizeof(claimed.task));
		bpf_map_update_elem(&claims, &claimed, &owner, BPF_ANY);
		__sync_fetch_and_add(&claims_made, 1);
	}
	row = flow_row(&stay, &key, false);
	if (!row)
		return 0;
	row->marks[FLOW_ACCEPTED] = 1;
	__sync_fetch_and_add(&row->accepts, 1);
	row->last_tick = bpf_jiffies64();
	return 0;
}

static __always_inline bool parse_ports(struct __sk_buff *skb, struct packet *packet,
					__u32 offset, bool out)
{
	struct flow_key *flow = &packet->flow;
	__u16 source, dest;

	if (flow->protocol == IPPROTO_TCP) {
		struct tcphdr tcp;
		__u8 *bytes = (__u8 *)&tcp;

		if (bpf_skb_load_bytes(skb, offset, &tcp, sizeof(tcp)))
			return false;
		source = bpf_ntohs(tcp.source);
		dest = bpf_ntohs(tcp.dest);
		packet->seq = bpf_ntohl(tcp.seq);
		packet->tcp_flags = bytes[13];
		packet->payload = offset + (bytes[12] >> 4) * 4;
	} else if (flow->protocol == IPPROTO_UDP) {
		struct udphdr udp;

		if (bpf_skb_load_bytes(skb, offset, &udp, sizeof(udp)))
			return false;
		source = bpf_ntohs(udp.source);
		dest = bpf_ntohs(udp.dest);
		packet->seq = udp.check;
		packet->payload = offset + sizeof(udp);
	} else {
		if (flow->protocol == IPPROTO_ICMP || flow->protocol == IPPROTO_ICMPV6)
			bpf_skb_load_bytes(skb, offset, &flow->icmp_type, 2);
		return true;
	}
	flow->local_port = out ? source : dest;
	flow->remote_port = out ? dest : source;
	packet->length = skb->len > packet->payload ? skb->len - packet->payload : 0;
	return true;
}

/* Extension headers are followed only as far as real traffic has them before its ports. */
#define EXTENSIONS 4
static __always_inline __u32 skip_extensions(struct __sk_buff *skb, struct flow_key *flow)
{
	__u32 offset = sizeof(struct ipv6hdr);
	__u8 next = flow->protocol;

#pragma clang loop unroll(full)
	for (int header = 0; header < EXTENSIONS; header++) {
		__u8 head[2] = {};

		if (next != 0 && next != 43 && next != 44 && next != 60)
			break;
		if (bpf_skb_load_bytes(skb, offset, head, 2))
			break;
		offset += next == 44 ? 8 : (head[1] + 1) * 8;
		next = head[0];
	}
	flow->protocol = next;
	return offset;
}

static __always_inline bool parse(struct __sk_buff *skb, struct packet *packet, bool out)
{
	struct flow_key *flow = &packet->flow;
	__u8 *source = out ? flow->local : flow->remote;
	__u8 *dest = out ? flow->remote : flow->local;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr ip;
		__u8 first;

		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
			return false;
		first = *(__u8 *)&ip;
		flow->family = 4;
		flow->protocol = ip.protocol;
		*(__u32 *)source = ip.saddr;
		*(__u32 *)dest = ip.daddr;
		/* A later fragment has no ports: it is left to the first one's row. */
		if (ip.frag_off & bpf_htons(0x1fff))
			return false;
		return parse_ports(skb, packet, (first & 15) * 4, out);
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
			return false;
		flow->family = 6;
		flow->protocol = ip.nexthdr;
		__builtin_memcpy(source, &ip.saddr, 16);
		__builtin_memcpy(dest, &ip.daddr, 16);
		return parse_ports(skb, packet, skip_extensions(skb, flow), out);
	}
	return false;
}

/* A socket whose storage names another socket is a listener's child that nobody has claimed. */
static __always_inline void claim(struct sock_owner *owner, struct flow_key *flow)
{
	struct task_key *claimant;
	__u32 made = *(volatile __u32 *)&claims_made;

	if (owner->claims_seen == made)
		return;
	owner->claims_seen = made;
	flow->netns = owner->netns;
	claimant = bpf_map_lookup_elem(&claims, flow);
	if (!claimant)
		return;
	owner->task = *claimant;
	owner->cookie = 0;
	bpf_map_delete_elem(&claims, flow);
}

static __always_inline void mark_tcp(struct flow_row *row, __u8 flags, bool out)
{
	if ((flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		row->marks[out ? FLOW_SYN_OUT : FLOW_SYN_IN] = 1;
	if ((flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK))
		row->marks[out ? FLOW_SYNACK_OUT : FLOW_SYNACK_IN] = 1;
	if (!(flags & (TCP_FIN | TCP_RST)))
		return;
	if (!row->marks[out ? FLOW_END_IN : FLOW_END_OUT])
		row->marks[out ? FLOW_END_OUT_FIRST : FLOW_END_IN_FIRST] = 1;
	row->marks[out ? FLOW_END_OUT : FLOW_END_IN] = 1;
}

static __always_inline void add(struct flow_row *row, struct __sk_buff *skb,
				struct packet *packet, bool out)
{
	if (packet->flow.protocol == IPPROTO_TCP)
		mark_tcp(row, packet->tcp_flags, out);
	__sync_fetch_and_add(out ? &row->packets_out : &row->packets_in, 1);
	__sync_fetch_and_add(out ? &row->bytes_out : &row->bytes_in, skb->len);
	row->last_tick = bpf_jiffies64();
}

static __always_inline int on_packet(struct __sk_buff *skb, bool out)
{
	struct bpf_sock *sk = skb->sk;
	struct packet packet = {};
	struct sock_owner *owner;
	struct flow_row *row;
	struct stay stay;

	if (!sk || !enter(&stay, J_NETWORK_FLOWS))
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	owner = bpf_sk_storage_get(&owners, sk, NULL, 0);
	if (!owner) {
		/* The kernel's own sockets, and what was open before the iterator saw it. */
		__sync_fetch_and_add(&stay.ledger->unowned, 1);
		return 1;
	}
	if (owner->task.tgid == self_tgid || !parse(skb, &packet, out))
		return 1;
	if (owner->cookie && owner->cookie != bpf_get_socket_cookie(skb))
		claim(owner, &packet.flow);
	packet.flow.netns = owner->netns;
	packet.flow.task = owner->task;
	row = flow_row(&stay, &packet.flow, !out);
	if (row)
		add(row, skb, &packet, out);
	if (!out && packet.flow.remote_port == DNS_PORT && packet.length)
		hand_on(skb, &packet);
	/* The only cost for every later packet of a connection, and for all others. */
	if (owner->hello || (out && begins(packet.tcp_flags)))
		look_at_hello(skb, owner, &packet, out);
	return 1;
}

SEC("cgroup_skb/ingress")
int ingress(struct __sk_buff *skb)
{
	return on_packet(skb, false);
}

SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
	return on_packet(skb, true);
}

/* Sockets that were open before us: their owners, once at start. */
SEC("iter/task_file")
int prime_sockets(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct sock_owner *owner;
	struct socket *socket;
	struct sock *sk;

	if (!task || !file || task->tgid == self_tgid)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket || !socket->sk)
		return 0;
	sk = socket->sk;
	if (sk->__sk_common.skc_family != AF_INET && sk->__sk_common.skc_family != AF_INET6)
		return 0;
	owner = bpf_sk_storage_get(&owners, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	/* Shared by several tasks: the first that the iterator meets, as good as any. */
	if (!owner || owner->task.tgid)
		return 0;
	task_identity(task, &owner->task);
	/*
	 * A child of a listener must not match the cookie that it was cloned with. Sockets get
	 * theirs when asked; a listener that never had one is given it here.
	 */
	owner->cookie = bpf_get_socket_cookie(sk);
	owner->netns = sk->__sk_common.skc_net.net->ns.inum;
	return 0;
}
