/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVMI client library: names of x86 model specific registers
 *
 * The names are those of the processor manuals, in lower case and without
 * IA32_ or MSR_.
 */

#include "kvmi-client.h"

static const struct {
    uint32_t index;
    const char *name;
} msrs[] = {
    { 0x00000010, "tsc" },
    { 0x0000001b, "apic_base" },
    { 0x0000003a, "feature_control" },
    { 0x0000003b, "tsc_adjust" },
    { 0x00000048, "spec_ctrl" },
    { 0x00000049, "pred_cmd" },
    { 0x0000008b, "ucode_rev" },
    { 0x0000009e, "smbase" },
    { 0x000000c1, "pmc0" },
    { 0x000000c2, "pmc1" },
    { 0x000000c3, "pmc2" },
    { 0x000000c4, "pmc3" },
    { 0x000000ce, "platform_info" },
    { 0x000000e1, "umwait_control" },
    { 0x000000fe, "mtrrcap" },
    { 0x0000010a, "arch_capabilities" },
    { 0x0000010b, "flush_cmd" },
    { 0x00000122, "tsx_ctrl" },
    { 0x00000174, "sysenter_cs" },
    { 0x00000175, "sysenter_esp" },
    { 0x00000176, "sysenter_eip" },
    { 0x00000179, "mcg_cap" },
    { 0x0000017a, "mcg_status" },
    { 0x0000017b, "mcg_ctl" },
    { 0x00000186, "perfevtsel0" },
    { 0x00000187, "perfevtsel1" },
    { 0x00000188, "perfevtsel2" },
    { 0x00000189, "perfevtsel3" },
    { 0x00000198, "perf_status" },
    { 0x00000199, "perf_ctl" },
    { 0x000001a0, "misc_enable" },
    { 0x000001d9, "debugctl" },
    { 0x000001fc, "power_ctl" },
    { 0x00000200, "mtrr_physbase0" },
    { 0x00000201, "mtrr_physmask0" },
    { 0x00000202, "mtrr_physbase1" },
    { 0x00000203, "mtrr_physmask1" },
    { 0x00000204, "mtrr_physbase2" },
    { 0x00000205, "mtrr_physmask2" },
    { 0x00000206, "mtrr_physbase3" },
    { 0x00000207, "mtrr_physmask3" },
    { 0x00000208, "mtrr_physbase4" },
    { 0x00000209, "mtrr_physmask4" },
    { 0x0000020a, "mtrr_physbase5" },
    { 0x0000020b, "mtrr_physmask5" },
    { 0x0000020c, "mtrr_physbase6" },
    { 0x0000020d, "mtrr_physmask6" },
    { 0x0000020e, "mtrr_physbase7" },
    { 0x0000020f, "mtrr_physmask7" },
    { 0x00000250, "mtrr_fix64k_00000" },
    { 0x00000258, "mtrr_fix16k_80000" },
    { 0x00000259, "mtrr_fix16k_a0000" },
    { 0x00000268, "mtrr_fix4k_c0000" },
    { 0x00000269, "mtrr_fix4k_c8000" },
    { 0x0000026a, "mtrr_fix4k_d0000" },
    { 0x0000026b, "mtrr_fix4k_d8000" },
    { 0x0000026c, "mtrr_fix4k_e0000" },
    { 0x0000026d, "mtrr_fix4k_e8000" },
    { 0x0000026e, "mtrr_fix4k_f0000" },
    { 0x0000026f, "mtrr_fix4k_f8000" },
    { 0x00000277, "pat" },
    { 0x000002ff, "mtrr_def_type" },
    { 0x00000309, "fixed_ctr0" },
    { 0x0000030a, "fixed_ctr1" },
    { 0x0000030b, "fixed_ctr2" },
    { 0x0000038d, "fixed_ctr_ctrl" },
    { 0x0000038e, "perf_global_status" },
    { 0x0000038f, "perf_global_ctrl" },
    { 0x00000390, "perf_global_ovf_ctrl" },
    { 0x000003f1, "pebs_enable" },
    { 0x00000400, "mc0_ctl" },
    { 0x00000480, "vmx_basic" },
    { 0x00000600, "ds_area" },
    { 0x000006a0, "u_cet" },
    { 0x000006a2, "s_cet" },
    { 0x000006a4, "pl0_ssp" },
    { 0x000006a5, "pl1_ssp" },
    { 0x000006a6, "pl2_ssp" },
    { 0x000006a7, "pl3_ssp" },
    { 0x000006a8, "int_ssp_tab" },
    { 0x000006e0, "tsc_deadline" },
    { 0x00000802, "x2apic_apicid" },
    { 0x00000808, "x2apic_tpr" },
    { 0x0000080b, "x2apic_eoi" },
    { 0x0000080d, "x2apic_ldr" },
    { 0x0000080f, "x2apic_sivr" },
    { 0x00000830, "x2apic_icr" },
    { 0x00000832, "x2apic_lvt_timer" },
    { 0x00000838, "x2apic_init_count" },
    { 0x0000083e, "x2apic_div_conf" },
    { 0x0000083f, "x2apic_self_ipi" },
    { 0x00000da0, "xss" },
    { 0xc0000080, "efer" },
    { 0xc0000081, "star" },
    { 0xc0000082, "lstar" },
    { 0xc0000083, "cstar" },
    { 0xc0000084, "fmask" },
    { 0xc0000100, "fs_base" },
    { 0xc0000101, "gs_base" },
    { 0xc0000102, "kernel_gs_base" },
    { 0xc0000103, "tsc_aux" },
    { 0xc0000104, "tsc_ratio" },
    { 0xc0010015, "hwcr" },
    { 0xc0010114, "vm_cr" },
    { 0xc0010117, "vm_hsave_pa" },
    { 0xc001011f, "virt_spec_ctrl" },
};

const char *kvmi_msr_name(uint32_t index)
{
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(msrs); i++) {
        if (msrs[i].index == index) {
            return msrs[i].name;
        }
    }
    return NULL;
}

bool kvmi_msr_from_name(const char *name, uint32_t *index)
{
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(msrs); i++) {
        if (!g_ascii_strcasecmp(msrs[i].name, name)) {
            *index = msrs[i].index;
            return true;
        }
    }
    return false;
}
