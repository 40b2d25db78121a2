/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * likely.h: which way nearly every packet of a known flow goes. The compiler lays that way out in one piece, and puts the rest behind it: a
 * program is some hundred times the size of the part of it that most packets run, which should not come from memory in crumbs.
 */
#ifndef EBPFNET_LIKELY_H
#define EBPFNET_LIKELY_H

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#endif
