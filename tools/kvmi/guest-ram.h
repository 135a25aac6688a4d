/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi: where the guest's RAM is, and going through all of it
 */

#ifndef KVMI_GUEST_RAM_H
#define KVMI_GUEST_RAM_H

#include "cmd.h"

typedef struct RamRange {
    uint64_t start, end;        /* page-aligned */
} RamRange;

/* The options --start and --length, which dump and search have. */
typedef struct RamOptions {
    char *start;
    char *length;
} RamOptions;

bool ram_options_parse(const RamOptions *o, uint64_t *start, uint64_t *length,
                       GError **errp);

/*
 * The RamRanges to go through: @length bytes from @start, or, if @length is
 * 0, all RAM from @start on.  In order, not empty, not overlapping.
 */
GArray *ram_find(App *app, uint64_t start, uint64_t length, GError **errp);
uint64_t ram_total(const GArray *ranges);

/*
 * Called with a piece of guest memory, in the order of addresses.  @present
 * says for each page whether it is RAM.
 */
typedef bool RamFunc(uint64_t gpa, const uint8_t *buf, const uint8_t *present,
                     size_t npages, void *opaque, GError **errp);

bool ram_walk(App *app, const GArray *ranges, RamFunc *func, void *opaque,
              GError **errp);

#endif /* KVMI_GUEST_RAM_H */
