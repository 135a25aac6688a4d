/*
 * Virtual machine introspection: who is at the other end of a socket
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_INTROSPECTION_PEER_H
#define ACCEL_INTROSPECTION_PEER_H

#include "qapi/qapi-types-introspection.h"

/* What the host's kernel says of it; NULL where that is nothing. */
IntrospectionPeerCredentials *introspection_peer_credentials(int fd);

/* The same in words, " (process 1, user 2)", or an empty string. */
char *introspection_peer_in_words(int fd);

/* It has closed the socket, whether or not all it sent has been read. */
bool introspection_peer_has_gone(int fd);

#endif
