# What the scripts beside this one share; they source it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export LAB=${LAB:-${XDG_CACHE_HOME:-$HOME/.cache}/vtax/lab}
# Where administrators' programs are.
PATH=$PATH:/usr/sbin:/sbin

# Exit code: the lab did not come to its end.
INCONCLUSIVE=75

die() {
    echo "${0##*/}: $1" >&2
    exit 1
}

# need PROGRAM:PACKAGE…: programs of this host, and the Debian packages that they come from.
need() {
    local packages=() entry
    for entry in "$@"; do
        command -v "${entry%:*}" >/dev/null || packages+=("${entry#*:}")
    done
    [[ ${#packages[@]} -gt 0 ]] || return 0
    command -v apt-get >/dev/null || die "needs these Debian packages: ${packages[*]}"
    [[ $EUID -eq 0 ]] || die "as root: apt-get install --no-install-recommends ${packages[*]}"
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"
}

# begin: $job is the directory of what goes into the lab, and is gone with the script.
begin() {
    need jq:jq
    job=$(mktemp -d)
    trap 'rm -rf "$job"' EXIT
}

# program NAME GIVEN COMMAND…: the program GIVEN, or what cargo COMMAND… builds, as $job/NAME. Stripped, since debug
# information only slows the lab's start.
program() {
    local name=$1 given=$2 built
    shift 2
    if [[ -z $given ]]; then
        built=$(cd "$here/../.." && cargo "$@" --locked --release --package vtax --message-format=json-render-diagnostics)
        given=$(jq -r --arg name "$name" 'select(.executable and .target.name == $name).executable' <<<"$built" | tail -n 1)
    fi
    strip -o "$job/$name" "$given"
}

# in_lab: runs $job/script in the lab with all else in $job beside it; where the lab hangs, once more.
in_lab() {
    local attempt code files=()
    for file in "$job"/*; do
        [[ $file = "$job/script" ]] || files+=("$file")
    done
    for attempt in 1 2; do
        code=0
        "$here/lab.sh" run "$job/script" "${files[@]}" || code=$?
        [[ $code -ne 0 ]] || return 0
        [[ $code -eq $INCONCLUSIVE ]] || exit "$code"
        echo "INCONCLUSIVE the lab did not come to its end within ${TIMEOUT:-its time limit} (attempt $attempt)"
    done
    exit "$INCONCLUSIVE"
}

# The exit code of a script that judges.
verdict=0

# judge WHAT [DETAIL]: it passed when there is no detail to complain of.
judge() {
    if [[ -z ${2:-} ]]; then
        echo "PASS $1"
    else
        echo "FAIL $1"
        sed 's/^/     /' <<<"$2"
        verdict=1
    fi
}

# judge_tests WHAT LOG: a test program. All its tests ran, and passed.
judge_tests() {
    local what=$1 log=$2 bad
    bad=$(grep -q '^test result: ok. [1-9][0-9]* passed; 0 failed; 0 ignored' "$log" && ! grep -q SKIPPED "$log" ||
        { grep -v '\.\.\. ok$' "$log" || echo "it said nothing"; } | tail -n 40)
    judge "$what: $(grep -c '^test .* \.\.\. ok$' "$log" || true) passed" "$bad"
}

# judge_measured WHAT RESULTS [LABEL]: every cell of a run, but for those whose label LABEL matches.
judge_measured() {
    local what=$1 results=$2 others=${3:-^$} bad count
    # A cell is measured when both sides have figures, or the guest alone where the host has nothing to compare with. All
    # threads share the lab's one CPU: a block in which another took it counts for nothing, and where that left no round,
    # the guest still did its work. A switch between the two readings of a block's start voids it by `clock`: that happens
    # to two vCPUs, and now and then to one; where it leaves one vCPU no round, its clocks are wrong.
    bad=$(jq -r --arg others "$others" '.cells[] | select(.label | test($others) | not)
        | (.label | test("guest\\.vcpus=2")) as $two
        | select(.failed or .voided.checksum or (.voided.clock and .rounds == 0 and ($two | not))
            or ((.native and .guest or .cost or .voided.preempted or .voided.clock) | not))
        | "\(.label): \(if .voided.checksum then "\(.voided.checksum) wrong checksums"
            elif .voided.clock then "\(.voided.clock) blocks void by clock" else .reason end)"' "$results")
    count=$(jq --arg others "$others" '[.cells[] | select(.label | test($others) | not)] | length' "$results")
    [[ $count -gt 0 ]] || bad="there is none"
    judge "$what: $count cells measured, all checksums right" "$bad"
}

# judge_kernel: what the lab's kernel said, in $LAB/out/dmesg.
judge_kernel() {
    local bad
    [[ -s $LAB/out/dmesg ]] || bad="it said nothing"
    bad=${bad:-$(grep -E 'WARNING:|BUG:|Oops|general protection fault' "$LAB/out/dmesg" || true)}
    judge "the lab's kernel has nothing to complain of" "$bad"
}
