/*
 * Virtual machine introspection: commands and events as masks and as names
 *
 * Masks are the ABI's: bits 1 << KVMI_* and 1 << KVMI_EVENT_*.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_INTROSPECTION_MASKS_H
#define ACCEL_INTROSPECTION_MASKS_H

#include "qapi/qapi-types-introspection.h"

/* Those that cannot be disallowed are always in the result. */
uint32_t introspection_commands_to_mask(const IntrospectionCommandList *list);
uint32_t introspection_events_to_mask(const IntrospectionEventList *list);

/* In the order of the bits; bits without a name are left out. */
IntrospectionCommandList *introspection_commands_from_mask(uint32_t mask);
IntrospectionEventList *introspection_events_from_mask(uint32_t mask);

/* @id is a KVMI_EVENT_* */
IntrospectionEvent introspection_event_from_id(uint32_t id);

#endif
