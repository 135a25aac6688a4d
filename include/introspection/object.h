/*
 * Virtual machine introspection: the -object
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef INTROSPECTION_OBJECT_H
#define INTROSPECTION_OBJECT_H

#include "qapi/qapi-types-qom.h"

/*
 * Parse the argument of -object introspection,...: unlike other objects it
 * has lists, commands.0=...,events.0=...  Returns NULL with an error, or
 * without one after help was asked for and printed.
 */
ObjectOptions *introspection_object_parse(const char *str, Error **errp);

#endif
