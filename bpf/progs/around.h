/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Reads that go around the verdict programs.  A socket in a map is read by functions of the map, but splice(2) and
 * TCP_ZEROCOPY_RECEIVE go on taking from TCP's own queue: they would get what came before accept(2) undecided, and of what
 * came later, which is not in that queue, nothing.  So they are refused with EINVAL, which says that this descriptor
 * cannot be spliced; programs that splice to save copies then read.
 *
 * Programs of the BPF LSM, because no other hook stands before either of them on kernels without error injection.
 */
#ifndef PC_AROUND_H
#define PC_AROUND_H

#include "maps.h"

#define PC_EINVAL 22
/* fs.h, MAY_READ; stat.h */
#define PC_MAY_READ 4
#define PC_S_IFMT 0170000
#define PC_S_IFSOCK 0140000
/*
 * splice(2), and sendfile(2), which splices when it writes to a pipe, in the tables of system calls of x86-64 and of its
 * 32-bit programs, where sendfile64 is another one.  In the other table each number means a call that reads no socket:
 * rmdir, readahead, get_mempolicy (twice), finit_module.
 */
#define PC_NR_SENDFILE 40
#define PC_NR_SPLICE 275
#define PC_NR_SENDFILE_IA32 187
#define PC_NR_SENDFILE64_IA32 239
#define PC_NR_SPLICE_IA32 313
#define PC_NR_X32 0x40000000
/* tcp.h */
#define PC_TCP_ZEROCOPY_RECEIVE 35

static __always_inline int pc_is_controlled(struct sock *sk)
{
	if (!sk || sk->sk_protocol != PC_PROTO_TCP)
		return 0;
	u64 cookie = bpf_get_socket_cookie(sk);
	struct pc_conn *conn = bpf_map_lookup_elem(&pc_conns, &cookie);

	return conn && (conn->flags & PC_CONN_CONTROLLED);
}

/*
 * security_file_permission(file, mask), which every read(2) of the host passes: the cheap questions first.  It does not
 * say what reads; the system call does, except of io_uring's.
 */
SEC("lsm/file_permission")
int pc_splice(u64 *ctx)
{
	struct file *file = (struct file *)ctx[0];

	if (!((u32)ctx[1] & PC_MAY_READ) || (file->f_inode->i_mode & PC_S_IFMT) != PC_S_IFSOCK)
		return 0;
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	u32 call = regs->orig_ax & ~PC_NR_X32;

	if (call != PC_NR_SPLICE && call != PC_NR_SPLICE_IA32 && call != PC_NR_SENDFILE &&
	    call != PC_NR_SENDFILE_IA32 && call != PC_NR_SENDFILE64_IA32)
		return 0;
	struct socket *socket = bpf_sock_from_file(file);

	return socket && pc_is_controlled(socket->sk) ? -PC_EINVAL : 0;
}

/* security_socket_getsockopt(sock, level, optname) */
SEC("lsm/socket_getsockopt")
int pc_zerocopy(u64 *ctx)
{
	struct socket *socket = (struct socket *)ctx[0];

	if ((u32)ctx[1] != PC_PROTO_TCP || (u32)ctx[2] != PC_TCP_ZEROCOPY_RECEIVE)
		return 0;
	return pc_is_controlled(socket->sk) ? -PC_EINVAL : 0;
}

#endif
