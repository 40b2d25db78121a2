/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* time.h: the clock of the flow table. A tick is a jiffy: reading it is one load, and it stands still while the machine sleeps. */
#ifndef EBPFNET_TIME_H
#define EBPFNET_TIME_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

/* Out: now, in ticks. Wraps; compare with ticks_since. */
static __always_inline __u32 ticks_now(void)
{
	return bpf_jiffies64();
}

/* In: two moments in ticks. Out: how many ticks passed from then to now; 0 where then is later. */
static __always_inline __u32 ticks_since(__u32 now, __u32 then)
{
	__s32 passed = now - then;

	return passed > 0 ? passed : 0;
}

#endif
