/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the conformance suite and its guest have agreed on: where things lie
 * in guest memory, the mailbox of each vCPU, and the list of operations.
 *
 * To add an operation, add its line to GUEST_OPS and write op_<name>() in
 * ops.c (with a helper in ops-asm.S where C cannot say it).
 */
#ifndef TESTS_GUEST_ABI_H
#define TESTS_GUEST_ABI_H

/* Physical memory, all of it mapped one to one. */
#define GUEST_CODE16            0x8000      /* code of the 16-bit modes */
#define GUEST_PML4_A            0x10000     /* CR3 after start-up */
#define GUEST_PML4_B            0x11000     /* maps the same as GUEST_PML4_A */
#define GUEST_PDPT              0x12000
#define GUEST_PD                0x13000     /* four pages: 4 GiB by 2 MiB */
#define GUEST_PT                0x17000     /* maps GUEST_SCRATCH by 4 KiB */
#define GUEST_PAGE_TABLES_END   0x18000
#define GUEST_PD32_A            0x18000     /* CR3 of GUEST_MODE_PAGED32 */
#define GUEST_PD32_B            0x19000     /* maps the same, all of memory */
#define GUEST_TEXT              0x100000
#define GUEST_MAILBOXES         0x300000
#define GUEST_VCPU_AREA_SIZE    0x4000      /* mailbox, then stacks */
#define GUEST_MAX_VCPUS         8
#define GUEST_RELEASE           0x3f0000    /* u32: nonzero ends all spinning */
#define GUEST_SCRATCH           0x400000    /* 2 MiB for the tests' own use */
#define GUEST_SCRATCH_SIZE      0x200000
#define GUEST_ROM               0xf0000     /* the image itself, read only */
#define GUEST_ROM_SIZE          0x10000

#define GUEST_MAILBOX(vcpu) (GUEST_MAILBOXES + (vcpu) * GUEST_VCPU_AREA_SIZE)

/* The last bytes of the image before the reset vector: known ROM contents. */
#define GUEST_ROM_MARK          0xfffe0
#define GUEST_ROM_MARK_TEXT     "KVMI test guest"

#define GUEST_MAGIC             0x494d564b

/* Code segment selectors. */
#define GUEST_CS32              0x08
#define GUEST_DS                0x10
#define GUEST_CS64              0x18
#define GUEST_TSS               0x20
#define GUEST_CS16              0x30
#define GUEST_DS16              0x38
#define GUEST_CS16_ROM          0x40
#define GUEST_USER_CS64         0x4b
#define GUEST_USER_DS           0x53
#define GUEST_USER_CS32         0x5b
#define GUEST_TSS32             0x60        /* of the legacy modes */
#define GUEST_TSS32_B           0x68        /* a task to switch to */
#define GUEST_GDT_ENTRIES       14

/*
 * Modes of OP_RUN.  Code of 16 bits is at GUEST_CODE16: in real and in
 * virtual-8086 mode that is CS:0, else CS has base 0.
 */
#define GUEST_MODE_USER64       0
#define GUEST_MODE_USER32       1
#define GUEST_MODE_COMPAT32     2           /* kernel, of a 64-bit system */
#define GUEST_MODE_COMPAT16     3
#define GUEST_MODE_PROT32       4           /* from here on: legacy modes */
#define GUEST_MODE_PAGED32      5           /* the same with paging */
#define GUEST_MODE_PROT16       6
#define GUEST_MODE_V86          7
#define GUEST_MODE_REAL         8

/* Interrupt vectors above the exceptions. */
#define GUEST_VECTOR_RETURN     0x30        /* INT: the end of OP_RUN's code */
#define GUEST_VECTOR_WAKE       0x40
#define GUEST_VECTOR_SPURIOUS   0xff

/* SIPI vector whose page is the image's first: where an AP starts. */
#define GUEST_SIPI_VECTOR       (GUEST_ROM >> 12)

/* What OP_LOAD_REGS puts in general register @n (RAX 0 ... R15 15). */
#define GUEST_REG_PATTERN(n)    (0x1122334455667700 + (n) * 0x0101010101010101)

/* Members of struct GuestMailbox that assembly uses. */
#define GUEST_MB_RESUME_RSP     0xf0
#define GUEST_MB_INSN           0xe0
#define GUEST_MB_COUNTER        0x20
#define GUEST_MB_RESULT         0x60
#define GUEST_MB_VECTOR         0xa8
#define GUEST_MB_DATA           0x400
#define GUEST_MB_DATA_SIZE      0xc00

#ifndef __ASSEMBLER__

/*
 *  X(NAME, name): arguments -> results.  Where an operation is about one
 *  instruction, insn_rip and insn_next say where that lies and ends.
 */
#define GUEST_OPS(X)                                                        \
    X(NOP, nop)                 /* */                                       \
    X(COUNT, count)             /* counts until released */                 \
    X(HALT, halt)               /* STI, HLT until an interrupt came */      \
    X(READ_CR, read_cr)         /* cr -> value */                           \
    X(WRITE_CR, write_cr)       /* cr, value -> value read back */          \
    X(LMSW, lmsw)               /* value -> CR0 read back */                \
    X(CLTS, clts)               /* -> CR0 read back */                      \
    X(RDMSR, rdmsr)             /* msr -> value */                          \
    X(WRMSR, wrmsr)             /* msr, value -> value read back */         \
    X(WRMSR_ONLY, wrmsr_only)   /* msr, value */                            \
    X(CPUID, cpuid)             /* function, index -> eax ebx ecx edx */    \
    X(LOAD_REGS, load_regs)     /* GUEST_REG_PATTERN in all, until released */\
    X(SPIN32, spin32)           /* 32-bit code until released */            \
    X(LOAD_FPU, load_fpu)       /* FXRSTOR from data[], until released */   \
    X(XSAVE, xsave)             /* XSAVE of everything to data[] */         \
    X(CALL, call)               /* address -> RAX of that code */           \
    X(RUN, run)                 /* mode, address, address of the other task */\
                                /* -> EAX of that code */                   \
    X(CALL_LOOP, call_loop)     /* address -> last RAX; until released */   \
    X(OUT, out)                 /* port: OUT without end, until released */ \
    X(START_VCPU, start_vcpu)   /* APIC id: INIT, SIPI */                   \
    X(SEND_IPI, send_ipi)       /* APIC id, vector */                       \
    X(INT3, int3)               /* */                                       \
    X(INT_N, int_n)             /* 3: INT 3 in its form of two bytes */     \
    X(XGETBV, xgetbv)           /* -> XCR0 */                               \
    X(XSETBV, xsetbv)           /* register, value -> XCR0 read back */     \
    X(WRITE_CR_LOOP, write_cr_loop) /* cr, 2 values in turn, until released */

enum GuestOp {
#define GUEST_OP_ENUM(NAME, name) OP_##NAME,
    GUEST_OPS(GUEST_OP_ENUM)
#undef GUEST_OP_ENUM
    OP__MAX
};

enum GuestStatus {
    GUEST_OK,               /* done as asked */
    GUEST_EXCEPTION,        /* ended by an exception: see vector and so on */
    GUEST_NO_SUCH_OP,
};

/*
 * The test writes op, arg and data, then request.  The vCPU sets started,
 * carries the operation out, and sets done to the number it found in request.
 */
struct GuestMailbox {
    uint32_t magic;         /* GUEST_MAGIC once this vCPU takes requests */
    uint32_t apic_id;
    uint64_t request;
    uint64_t started;
    uint64_t done;
    uint64_t counter;       /* goes up while there is nothing else to do */
    uint32_t op;            /* enum GuestOp */
    uint32_t status;        /* enum GuestStatus */
    uint64_t arg[6];
    uint64_t result[8];
    uint64_t exceptions;    /* the last exception, and how many so far */
    uint64_t vector;
    uint64_t error_code;
    uint64_t rip;
    uint64_t cr2;
    uint64_t interrupts;    /* the last interrupt or NMI, and how many */
    uint64_t interrupt;
    uint64_t pad;
    uint64_t insn_rip;
    uint64_t insn_next;
    uint64_t resume_rsp;    /* the guest's own */
};

#endif /* !__ASSEMBLER__ */
#endif /* TESTS_GUEST_ABI_H */
