# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the set-up scripts share. Sourced; the caller has set -eu.

shopt -s inherit_errexit

program=$(basename "$0")
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
base_dir=${KVMI_BASE_DIR:-$root/base}

# A headline for a step, so that a long run can be followed.
step()
{
    echo "== $*"
}

note()
{
    echo "$program: $*"
}

# die MESSAGE [LINE...]: what went wrong, then what to do about it.
die()
{
    echo "$program: error: $1" >&2
    shift
    while [ $# -gt 0 ]; do
        echo "    $1" >&2
        shift
    done
    exit 1
}

has()
{
    command -v "$1" >/dev/null 2>&1
}

# QEMU's own configure refuses such directories; say it before anything else.
check_root_path()
{
    case $root in
    *[[:space:]:]*)
        die "the directory '$root' has a space or a colon in its name" \
            "QEMU's build does not work there: move it to another place" ;;
    esac
}

# Hold a lock on base/ until this process ends: two runs at once would
# remove each other's temporary directories.
lock_base()
{
    mkdir -p "$base_dir" && [ -w "$base_dir" ] ||
        die "cannot write to $base_dir" "everything generated is put there and in build/"
    exec 9>"$base_dir/.lock"
    if ! flock -n 9; then
        note "another run is at work in $base_dir; waiting for it"
        flock 9
    fi
}

# What to say after something could not be written to the directory $1.
space_hint()
{
    df -h "$1" | awk 'END { print "is there space? " $4 " left in " $6 }'
}

# The field $1 of os-release, empty if there is none.
os_release()
{
    ( . "${KVMI_OS_RELEASE:-/etc/os-release}" 2>/dev/null && eval "echo \"\${$1-}\"" )
}

# The Debian release to fetch ordinary packages from that are not installed but
# run somewhere: this machine's own, else the one whose QEMU is the base.
debian_suite()
{
    case $(os_release VERSION_CODENAME) in
    bookworm) echo bookworm ;;
    *) echo trixie ;;
    esac
}

# The one to fetch Linux from: 6.12 for all of them.
debian_kernel_suite()
{
    case $(os_release VERSION_CODENAME) in
    bookworm) echo bookworm-backports ;;
    *) echo trixie ;;
    esac
}
