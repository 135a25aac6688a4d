/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi: what an instruction of the guest writes, and how to leave it out
 *
 * Takes the library Capstone; built without it, insn_available() is false.
 */

#ifndef KVMI_INSN_H
#define KVMI_INSN_H

#include "kvmi-client.h"

/* The element of a string instruction that moves RDI, or RSI too */
typedef enum InsnString {
    INSN_NO_STRING,
    INSN_STOS,
    INSN_MOVS,
} InsnString;

typedef struct Insn {
    unsigned length;            /* of the instruction, in bytes */
    unsigned write_size;        /* of what it writes to memory; 0: unknown */
    unsigned address_size;
    InsnString string;
    bool rep;
} Insn;

bool insn_available(void);

/* The instruction that caused @event, from the guest's memory. */
bool insn_read(KvmiClient *client, const struct kvmi_event *event, Insn *insn,
               GError **errp);

/*
 * The registers after @insn, had it written nothing: past it, or past one
 * element of a string instruction with REP.
 */
void insn_skip(const Insn *insn, struct kvm_regs *regs);

#endif /* KVMI_INSN_H */
