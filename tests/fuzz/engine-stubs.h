/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What QEMU's engine calls outside of itself: vCPUs' state and memory
 */
#ifndef TESTS_FUZZ_ENGINE_STUBS_H
#define TESTS_FUZZ_ENGINE_STUBS_H

#define STUB_VCPUS 8

/* By cpu_index; only the vCPU's thread reads and writes it. */
extern uint64_t stub_rip[STUB_VCPUS];

#endif
