# SPDX-License-Identifier: GPL-2.0-or-later
#
# The series of patches for Linux, and Linux's sources, for the scripts that
# deal with the kernel's engine. Sourced after common.sh.

kernel_dir=$base_dir/kernel
patches_dir=$root/linux-headers/patches

# Names in linux-headers/patches/series, comments and empty lines left out.
kernel_series()
{
    [ -e "$patches_dir/series" ] || return 0
    sed -e 's/[[:space:]]*#.*//' -e '/^[[:space:]]*$/d' "$patches_dir/series"
}

# All files that the series touches but for those that it creates: these must
# be in Linux.
kernel_series_base_files()
{
    kernel_series | while read -r name; do
        awk '
            /^diff --git / { file = substr($4, 3); created = 0 }
            /^new file mode / { created = 1 }
            /^index / { print (created ? "new" : "old"), file }
        ' "$patches_dir/$name"
    done | awk '!seen[$2]++ && $1 == "old" { print $2 }'
}

# linux_extract SOURCE DIR PATH...: the paths out of a Linux tree or tarball.
linux_extract()
{
    local source=$1 dir=$2
    shift 2
    if [ -d "$source" ]; then
        tar -c -f - -C "$source" "$@" | tar -x --no-same-owner -f - -C "$dir"
    else
        tar -x --no-same-owner -f "$source" -C "$dir" --strip-components=1 "${@/#/linux-source-6.12/}"
    fi || die "could not take out of $source: $*" "is it a Linux 6.12 of Debian's?" "$(space_hint "$dir")"
}

# Apply the series to the sources in $1, without git's knowing of them.
kernel_apply_series()
{
    local name
    kernel_series | while read -r name; do
        git --git-dir="$1/none" --work-tree="$1" -C "$1" apply --whitespace=nowarn "$patches_dir/$name" ||
            die "linux-headers/patches/$name does not apply" \
                "the series is made for Linux 6.12"
    done
}

# The guest's driver, which is a module of its own.
kvmmem_dir=drivers/virt/kvmmem

# prepend FILE: what is on stdin comes first in it.
prepend()
{
    cat - "$1" >"$1.new"
    mv "$1.new" "$1"
}

# kvm_adapt_makefiles TREE y|n: KVM's makefile expects to be in the kernel's tree.
# The headers of TREE come before the kernel's; CONFIG_KVM_INTROSPECTION and
# CONFIG_KVM_INTROSPECTION_GUEST, which the kernel does not know, are set here.
kvm_adapt_makefiles()
{
    local tree=$1 makefile=$1/arch/x86/kvm/Makefile headers
    headers='tree := $(src)/../../..
LINUXINCLUDE := -I$(tree)/arch/x86/include -I$(tree)/include -I$(tree)/arch/x86/include/uapi -I$(tree)/include/uapi $(LINUXINCLUDE)'
    sed -i -e 's|$(srctree)/arch/x86/kvm|$(src)|' \
        -e 's|$(srctree)/virt/kvm/Makefile.kvm|$(src)/../../../virt/kvm/Makefile.kvm|' "$makefile"
    {
        printf '%s\n' "$headers" 'ccflags-y += -I$(tree)/include/trace'
        [ "$2" = n ] || printf '%s\n' 'CONFIG_KVM_INTROSPECTION := y' 'ccflags-y += -DCONFIG_KVM_INTROSPECTION=1'
    } | prepend "$makefile"
    # Patches before the one that brings it are built, too.
    if [ -e "$tree/$kvmmem_dir" ]; then
        if [ "$2" = n ]; then
            rm -r "${tree:?}/$kvmmem_dir"
        else
            printf '%s\n' "$headers" 'CONFIG_KVM_INTROSPECTION_GUEST := m' | prepend "$tree/$kvmmem_dir/Makefile"
        fi
    fi
    # Trace headers name themselves relative to this directory.
    mkdir -p "$tree/include/trace" "$tree/include/uapi" "$tree/arch/x86/include/uapi"
    cat >"$tree/Makefile" <<'END'
# SPDX-License-Identifier: GPL-2.0-or-later
#
# KVM with introspection, and the driver for its guests, for the kernel whose headers
# are in KDIR.

KDIR ?= /lib/modules/$(shell uname -r)/build

modules clean:
	$(MAKE) -C $(KDIR) M=$(CURDIR)/arch/x86/kvm $@
	$(if $(wildcard drivers/virt/kvmmem),$(MAKE) -C $(KDIR) M=$(CURDIR)/drivers/virt/kvmmem $@)

.PHONY: modules clean
END
}
