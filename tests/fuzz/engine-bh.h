/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A main loop for tests of QEMU's engine without QEMU: its bottom halves
 */
#ifndef TESTS_FUZZ_ENGINE_BH_H
#define TESTS_FUZZ_ENGINE_BH_H

/* Run one with the BQL, which the caller does not have, if there is one. */
bool bh_run(void);

/* The same, once there is one. */
void bh_wait(void);

#endif
