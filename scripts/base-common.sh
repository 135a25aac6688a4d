# SPDX-License-Identifier: GPL-2.0-or-later
#
# The base and its git directory, for prepare-base and refresh-hooks.
#
# base/qemu -> qemu-10.0.x           the base in use
# base/qemu-10.0.x/                  the work tree, hooks applied, links made
# base/qemu-10.0.x.git/              git's data, outside of the tree: QEMU's
#                                    scripts behave differently in a checkout
#     refs/heads/base                the pristine sources
#     refs/heads/hooked, the index   these plus the hooks, as in the work tree
#     kvmi/source                    where the sources came from
#     kvmi/links                     the links that were made in the work tree
#     kvmi/stamp                     hash of the hooks and links that are in

hooks_dir=$root/hooks/qemu

# The result must not depend on the user's configuration of git.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1

base_git()
{
    git --git-dir="$git_dir" --work-tree="$tree" \
        -c core.autocrlf=false -c core.fileMode=true -c gc.auto=0 "$@"
}

# Paths of the base in use; false if there is none.
open_base()
{
    local name
    name=$(readlink "$base_dir/qemu") || return 1
    tree=$base_dir/$name
    git_dir=$tree.git
    [ -d "$git_dir" ]
}

# A commit of the tree object $1 with the parents "-p X" that follow; dated by
# a constant, so that the same hooks always make the same commit.
commit_tree()
{
    local object=$1 message=$2
    shift 2
    GIT_AUTHOR_NAME=kvmi GIT_AUTHOR_EMAIL=kvmi@localhost GIT_AUTHOR_DATE='2000-01-01T00:00:00Z' \
    GIT_COMMITTER_NAME=kvmi GIT_COMMITTER_EMAIL=kvmi@localhost GIT_COMMITTER_DATE='2000-01-01T00:00:00Z' \
        base_git commit-tree "$object" "$@" -m "$message"
}

# Names in hooks/qemu/series, comments and empty lines left out.
series()
{
    [ -e "$hooks_dir/series" ] || return 0
    sed -e 's/[[:space:]]*#.*//' -e '/^[[:space:]]*$/d' "$hooks_dir/series"
}

# Lines "LINK PATH" of hooks/qemu/links.
links()
{
    [ -e "$hooks_dir/links" ] || return 0
    sed -e 's/[[:space:]]*#.*//' -e '/^[[:space:]]*$/d' "$hooks_dir/links"
}

check_series()
{
    local name
    while read -r name; do
        [ -e "$hooks_dir/$name" ] ||
            die "hooks/qemu/series names $name, which is not there" \
                "restore the file, or remove its line"
    done < <(series)
    for name in "$hooks_dir"/*.patch; do
        [ -e "$name" ] || continue
        series | grep -qxF -- "${name##*/}" ||
            die "hooks/qemu/${name##*/} is not in hooks/qemu/series" \
                "add a line for it there, or remove the file"
    done
}

# Hash of all that decides what the work tree looks like.
hooks_stamp()
{
    {
        base_git rev-parse --verify refs/heads/base
        series
        series | while read -r name; do
            cat "$hooks_dir/$name"
        done
        links
        echo "$root"
    } | sha256sum | cut -d ' ' -f 1
}

# Apply all hooks to the pristine sources in an index of its own, and print
# the resulting tree object. The work tree and its index are not touched.
hooked_tree()
{
    local name
    (
        export GIT_INDEX_FILE=$git_dir/kvmi/index
        rm -f "$GIT_INDEX_FILE"
        base_git read-tree refs/heads/base
        while read -r name; do
            base_git apply --cached --whitespace=nowarn "$hooks_dir/$name" ||
                die "the hook hooks/qemu/$name does not apply to QEMU $(base_version)" \
                    "nothing was changed in $tree." \
                    "Was it made for another 10.0.x? Then change the hook; see docs/devel/introspection.rst."
        done < <(series)
        base_git write-tree
        rm -f "$GIT_INDEX_FILE"
    )
}

base_version()
{
    base_git show refs/heads/base:VERSION
}

# Files of the base that were edited and not yet exported as hooks.
edited_files()
{
    base_git update-index -q --refresh >/dev/null || true
    base_git diff-files --name-only
}

# Bring the work tree from the commit in refs/heads/hooked to $1, touching only
# what differs. Edits that are not exported stay, or stop this; with merge=yes
# they are merged where that can be done.
update_tree()
{
    local new=$1 old file blocked=()
    old=$(base_git rev-parse --verify refs/heads/hooked)
    while read -r file; do
        [ -n "$file" ] || continue
        if same_as_in "$new" "$file" || { [ "${merge-no}" = yes ] && merge_edit "$old" "$new" "$file"; }; then
            index_as_in "$new" "$file"
        else
            blocked+=("$file")
        fi
    done < <(comm -12 <(edited_files | sort) \
                      <(base_git diff-tree -r --name-only "$old" "$new" | sort))
    [ ${#blocked[@]} = 0 ] || die_blocked "${blocked[@]}"
    base_git read-tree -m -u "$old" "$new"
    base_git update-ref refs/heads/hooked "$new"
}

die_blocked()
{
    local save="git --git-dir=$git_dir --work-tree=$tree diff -- $* > edits.diff"
    if [ "${merge-no}" = yes ]; then
        die "the hooks and your edits in the base changed the same lines of: $*" \
            "save the edits: $save" \
            "take the hooks: scripts/prepare-base --discard-edits" \
            "then make the edits again, and run scripts/refresh-hooks"
    fi
    die "the hooks changed files of the base that have edits of yours: $*" \
        "keep the edits, merged and exported: scripts/refresh-hooks" \
        "or throw them away: scripts/prepare-base --discard-edits"
}

# Three-way merge of the hooks' change from $1 to $2 into the edited file $3.
merge_edit()
{
    local dir=$git_dir/kvmi/merge
    rm -rf "$dir"
    mkdir "$dir"
    base_git show "$1:$3" >"$dir/old" 2>/dev/null || return 1
    base_git show "$2:$3" >"$dir/new" 2>/dev/null || return 1
    git merge-file -q -p "$tree/$3" "$dir/old" "$dir/new" >"$dir/merged" || return 1
    cat "$dir/merged" >"$tree/$3"
}

# Let the index have the file $2 as the commit $1 has it.
index_as_in()
{
    local entry
    entry=$(base_git ls-tree "$1" -- "$2")
    if [ -n "$entry" ]; then
        base_git update-index --index-info <<<"$entry"
    else
        base_git update-index --force-remove -- "$2"
    fi
}

# Is the file $2 in the work tree as the commit $1 has it?
same_as_in()
{
    local want have=
    want=$(base_git rev-parse -q --verify "$1:$2" || true)
    [ ! -e "$tree/$2" ] || have=$(base_git hash-object -- "$tree/$2")
    [ "$want" = "$have" ]
}

# ../ once for each directory in the path $1.
way_up()
{
    local rest=$1 up=
    while [ "${rest#*/}" != "$rest" ]; do
        up=../$up
        rest=${rest#*/}
    done
    echo "$up"
}

# What the link $1 points to, for the repository's path $2: through the link
# 'kvmi', so that only that one knows where the repository is.
link_target()
{
    if [ "$1" = kvmi ]; then
        realpath --relative-to="$tree" "$root"
    else
        echo "$(way_up "$1")kvmi/$2"
    fi
}

# Make the symbolic links, remove those that are no longer listed.
update_links()
{
    local link path target
    while read -r link path; do
        [ -e "$root/$path" ] ||
            die "hooks/qemu/links wants $link to point to $path, which is not in the repository" \
                "restore $path, or remove the line"
        [ ! -e "$tree/$link" ] || [ -L "$tree/$link" ] ||
            die "hooks/qemu/links names $link, which is a file of the base" \
                "choose another name for the link"
    done < <(links)
    if [ -e "$git_dir/kvmi/links" ]; then
        while read -r link _; do
            [ ! -L "$tree/$link" ] || links | grep -q "^$link[[:space:]]" || rm -f "$tree/$link"
        done <"$git_dir/kvmi/links"
    fi
    links >"$git_dir/kvmi/links"
    while read -r link path; do
        target=$(link_target "$link" "$path")
        [ "$(readlink "$tree/$link" || true)" = "$target" ] && continue
        mkdir -p "$(dirname "$tree/$link")"
        ln -sfn "$target" "$tree/$link"
    done < <(links)
    links | sed 's|^\([^[:space:]]*\).*|/\1|' >"$git_dir/info/exclude"
}

# Hooks and links as the repository has them now.
update_base()
{
    local object new
    check_series
    mkdir -p "$git_dir/kvmi"
    rm -f "$git_dir/kvmi/stamp"
    object=$(hooked_tree)
    new=$(commit_tree "$object" 'The hooks' -p refs/heads/base)
    update_tree "$new"
    update_links
    hooks_stamp >"$git_dir/kvmi/stamp.new"
    mv "$git_dir/kvmi/stamp.new" "$git_dir/kvmi/stamp"
}
