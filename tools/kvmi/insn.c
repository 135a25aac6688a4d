/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi: what an instruction of the guest writes, and how to leave it out
 */

#include "insn.h"
#include "cmd.h"

#define MAX_INSN 15
#define RFLAGS_DF (1u << 10)

#ifdef CONFIG_KVMI_CAPSTONE

#include <capstone.h>

bool insn_available(void)
{
    return true;
}

static InsnString string_of(unsigned id)
{
    switch (id) {
    case X86_INS_STOSB:
    case X86_INS_STOSW:
    case X86_INS_STOSD:
    case X86_INS_STOSQ:
        return INSN_STOS;
    case X86_INS_MOVSB:
    case X86_INS_MOVSW:
    case X86_INS_MOVSD:
    case X86_INS_MOVSQ:
        return INSN_MOVS;
    default:
        return INSN_NO_STRING;
    }
}

/* MOVSD is a string instruction, and one of SSE2 that moves a double. */
static bool has_xmm(const cs_x86 *x86)
{
    unsigned i;

    for (i = 0; i < x86->op_count; i++) {
        if (x86->operands[i].type == X86_OP_REG &&
            x86->operands[i].reg >= X86_REG_XMM0 &&
            x86->operands[i].reg <= X86_REG_XMM31) {
            return true;
        }
    }
    return false;
}

static unsigned write_size(const cs_insn *in)
{
    const cs_x86 *x86 = &in->detail->x86;
    unsigned i;

    /* Older versions do not know for all which operand is written. */
    for (i = 0; i < x86->op_count; i++) {
        if (x86->operands[i].type == X86_OP_MEM) {
            return x86->operands[i].size;
        }
    }
    /* PUSH, CALL and the like write to the stack */
    return x86->op_count ? x86->operands[0].size : 8;
}

static bool decode(uint8_t mode, const uint8_t *bytes, size_t size,
                   uint64_t address, Insn *insn, GError **errp)
{
    cs_mode cs = mode == 8 ? CS_MODE_64 : mode == 4 ? CS_MODE_32 : CS_MODE_16;
    cs_insn *in;
    csh handle;

    if (cs_open(CS_ARCH_X86, cs, &handle) != CS_ERR_OK) {
        return local_error(errp, "Capstone cannot be used: out of memory?");
    }
    cs_option(handle, CS_OPT_DETAIL, CS_OPT_ON);
    if (!cs_disasm(handle, bytes, size, address, 1, &in)) {
        cs_close(&handle);
        return local_error(errp, "Capstone does not know the instruction at "
                           "0x%" PRIx64, address);
    }
    *insn = (Insn) {
        .length = in->size,
        .write_size = write_size(in),
        .address_size = in->detail->x86.addr_size,
        .string = has_xmm(&in->detail->x86) ? INSN_NO_STRING
                                            : string_of(in->id),
        .rep = in->detail->x86.prefix[0] == X86_PREFIX_REP ||
               in->detail->x86.prefix[0] == X86_PREFIX_REPNE,
    };
    cs_free(in, 1);
    cs_close(&handle);
    return true;
}

#else /* !CONFIG_KVMI_CAPSTONE */

bool insn_available(void)
{
    return false;
}

static bool decode(uint8_t mode, const uint8_t *bytes, size_t size,
                   uint64_t address, Insn *insn, GError **errp)
{
    return local_error(errp, "this kvmi was built without Capstone");
}

#endif

bool insn_read(KvmiClient *client, const struct kvmi_event *event, Insn *insn,
               GError **errp)
{
    uint64_t address = event->regs.rip;
    uint8_t bytes[MAX_INSN];
    GError *err = NULL;
    size_t size;

    if (event->mode != 8) {
        address = (uint32_t)(address + event->sregs.cs.base);
    }
    /* What follows the instruction may lie in a page that is not there. */
    if (!kvmi_read_virtual(client, &event->sregs, address, bytes,
                           sizeof(bytes), &size, &err)) {
        if (!size) {
            g_propagate_error(errp, err);
            return false;
        }
        g_error_free(err);
    }
    return decode(event->mode, bytes, size, event->regs.rip, insn, errp);
}

/* Of a register as an address or a count: its upper part stays, or is zero. */
static uint64_t add(uint64_t reg, int64_t n, unsigned address_size)
{
    switch (address_size) {
    case 2:
        return (reg & ~0xffffULL) | ((reg + n) & 0xffff);
    case 4:
        return (uint32_t)(reg + n);
    default:
        return reg + n;
    }
}

static bool is_zero(uint64_t reg, unsigned address_size)
{
    return address_size == 8 ? !reg
                             : !(reg & ((1ULL << address_size * 8) - 1));
}

void insn_skip(const Insn *insn, struct kvm_regs *regs)
{
    unsigned a = insn->address_size;
    int64_t n = regs->rflags & RFLAGS_DF ? -(int64_t)insn->write_size
                                         : insn->write_size;

    if (insn->string != INSN_NO_STRING) {
        regs->rdi = add(regs->rdi, n, a);
        if (insn->string == INSN_MOVS) {
            regs->rsi = add(regs->rsi, n, a);
        }
        if (insn->rep) {
            regs->rcx = add(regs->rcx, -1, a);
            if (!is_zero(regs->rcx, a)) {
                return;                 /* the next element */
            }
        }
    }
    regs->rip += insn->length;
}
