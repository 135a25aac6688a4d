# SPDX-License-Identifier: GPL-2.0-or-later
#
# Named cases in bash, reported as TAP. A case is a function test_NAME, run in
# a subshell and a directory of its own with set -e: the first command that
# fails fails it. Sourced by the test, which calls run_tests at its end.

set -eu

# Reasons are printed on the diagnostic channel that TAP has for them.
fail()
{
    echo "FAILED: $*"
    exit 1
}

skip()
{
    echo "$*" >"$case_dir/skip"
    exit 0
}

# The command fails, and says all of the given texts (each after a --says).
fails_saying()
{
    local texts=() out
    while [ "$1" = --says ]; do
        texts+=("$2")
        shift 2
    done
    if out=$("$@" 2>&1); then
        fail "'$*' did not fail; it said: $out"
    fi
    local text
    for text in "${texts[@]}"; do
        grep -qF -- "$text" <<<"$out" || fail "'$*' did not say '$text' but: $out"
    done
}

says()
{
    local text=$1 out
    shift
    out=$("$@" 2>&1) || fail "'$*' failed: $out"
    grep -qF -- "$text" <<<"$out" || fail "'$*' did not say '$text' but: $out"
}

# For what must fail; a plain '! command' that succeeds does not end a case.
not()
{
    if "$@"; then
        fail "'$*' succeeded"
    fi
}

same()
{
    [ "$1" = "$2" ] || fail "'$1' is not '$2'"
}

run_case()
{
    local name=$1 number=$2 status
    case_dir=$work/$name
    mkdir "$case_dir"
    # Not in a condition: that would turn set -e off inside.
    set +e
    (set -e; cd "$case_dir"; "test_$name") >"$work/log" 2>&1
    status=$?
    set -e
    if [ $status = 0 ]; then
        if [ -e "$case_dir/skip" ]; then
            echo "ok $number ${name//_/-} # SKIP $(cat "$case_dir/skip")"
        else
            echo "ok $number ${name//_/-}"
        fi
    else
        echo "not ok $number ${name//_/-}"
        sed 's/^/# /' "$work/log"
        failed=1
    fi
}

run_tests()
{
    local names name number=0
    failed=0
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mapfile -t names < <(declare -F | sed -n 's/^declare -f test_//p')
    if [ $# -gt 0 ]; then
        names=("${@//-/_}")
    fi
    echo "1..${#names[@]}"
    for name in "${names[@]}"; do
        number=$((number + 1))
        run_case "$name" $number
    done
    [ $failed = 0 ]
}
