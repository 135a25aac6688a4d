/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi: an event as a line of text, or as JSON
 */

#ifndef KVMI_TRACE_EVENT_H
#define KVMI_TRACE_EVENT_H

#include "watch.h"

/* "cr3", "lstar", "pf", "gdtr"... */
const char *event_label(const KvmiEvent *event, char buf[16]);
/* Of which a summary counts the different ones: a new value, a place... */
uint64_t event_value(const KvmiEvent *event);
const char *event_value_name(uint32_t event, uint64_t index);

/* All of it, from watch_begin_event() on. */
void show_event(Watch *w, const KvmiEvent *event);

/* "rw-" */
const char *access_name(uint8_t access, char buf[4]);

#endif /* KVMI_TRACE_EVENT_H */
