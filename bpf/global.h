/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * global.h: functions that the verifier looks at once, by themselves, and not once for each place that calls them. They are given the packet
 * and numbers, and find the rest in scratch: before kernel 5.12 no pointer to anything else can be handed over.
 */
#ifndef EBPFNET_GLOBAL_H
#define EBPFNET_GLOBAL_H

#define GLOBAL __attribute__((noinline))

#endif
