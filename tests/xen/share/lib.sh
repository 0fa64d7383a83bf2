# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# What the cases in tests/xen/cases, which run in dom0, are written with. tests/xen/run sources this file, then the case.
#
# A case fails by `fail REASON`, by any command that fails (set -e), or by what it leaves behind: see case_end().

set -euo pipefail

CASE=${CASE:?name of the case}
WORK=/scratch/$CASE             # images on ext4 over a virtio disk: direct I/O works
RAM=/tmp/$CASE                  # images on tmpfs: it doesn't
RUN=/run/case-$CASE             # what else the case needs
CONFIG=/etc/blkbackd/blkbackd.conf # where blkbackctl and the hook look by themselves
LOG=/share/logs/$CASE.blkbackd.log
STATE_DIR=/run/blkbackd/state
HOOK=block-blkbackd
[ "${BACKEND:-}" != kernel ] || HOOK=block
export BLOCK_DEVICE=/dev/vdc    # a raw disk of dom0's
ENGINE=${ENGINE:-}              # of start_blkbackd; empty: the daemon's own choice
GUEST_CPU=1                     # the next guest's; one domain per CPU
GUEST_MEMORY=256                # MiB
BOOT_SECONDS=120                # that it may take
GUEST_LINUX="console=hvc0 quiet loglevel=4 panic=-1 mitigations=off rodata=off" # what is left out costs a second
GUEST_ARGS=                     # more on the guest's kernel command line, e.g. blkfront.max_ring_page_order=2
GUEST_CONFIG=                   # more lines of its xl configuration
BACKEND=${BACKEND:-blkbackd}     # kernel: the cases run with xen-blkback and Xen's own script, to compare
started=$SECONDS
declare -A run_ids=()

say() { echo "[$((SECONDS - started)) s] $*"; }
fail() { echo "FAIL: $*" >&2; exit 1; }
skip() { echo "SKIP: $*"; exit 77; }

# A tenth of a second, without a process: under emulation each costs as much as all that a test waits for.
exec {idle}<> <(:)
pause() { read -r -t 0.1 -u "$idle" || true; }

# until_true SECONDS COMMAND...: repeats the command until it succeeds; fails after that time
until_true() {
    local deadline=$((SECONDS + $1 + 1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || return 1
        pause
    done
}

expect_equal() { # what expected got
    [ "$2" = "$3" ] || fail "$1: expected '$2', got '$3'"
}

expect_text() { # what pattern text
    grep -qE -e "$2" <<<"$3" || fail "$1: expected /$2/ in: $3"
}

# expect_failure PATTERN COMMAND...: the command must fail and say something that matches
expect_failure() {
    local pattern=$1 output
    shift
    if output=$("$@" 2>&1); then fail "'$*' succeeded; expected it to fail with /$pattern/"; fi
    expect_text "what '$*' says" "$pattern" "$output"
}

# --- the daemon ----------------------------------------------------------------------------------------------------------

# start_blkbackd [SECTION.KEY=VALUE...]: starts it as its unit does and returns when it has said that it is ready
start_blkbackd() {
    local setting key begun=$EPOCHREALTIME listener
    if [ "$BACKEND" = kernel ]; then modprobe xen-blkback; return; fi
    mkdir -p "${CONFIG%/*}/disks.d"
    {
        printf '[daemon]\nlog-level = %s\n' "${LOG_LEVEL:-info}"
        printf '[worker]\nbinary = /opt/blkbackd/bin/blkbackd-worker\n'
        [ -z "$ENGINE" ] || printf '[disk]\nengine = %s\n' "$ENGINE"
        for setting in "$@"; do
            key=${setting%%=*}
            printf '[%s]\n%s = %s\n' "${key%%.*}" "${key#*.}" "${setting#*=}"
        done
    } >"$CONFIG"
    rm -f "$RUN/notify" "$RUN/exit-status"
    : >"$RUN/notified"
    socat -u UNIX-RECV:"$RUN/notify" OPEN:"$RUN/notified",append &
    listener=$!
    until_true 5 test -S "$RUN/notify" || fail "the readiness listener does not start"
    (
        trap - EXIT
        NOTIFY_SOCKET=$RUN/notify blkbackd --foreground --config "$CONFIG" >>"$LOG" 2>&1 &
        echo $! >"$RUN/pid"
        status=0
        wait $! 2>/dev/null || status=$? # the shell would say "Killed" where the case kills it
        echo $status >"$RUN/exit-status"
    ) &
    until_true 15 broker_ready_or_ended || true
    kill $listener 2>/dev/null || true
    grep -qa READY=1 "$RUN/notified" || fail "blkbackd does not become ready: $(tail -n 5 "$LOG")"
    say "blkbackd is ready after $(awk -v a="$begun" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }') s"
}

broker_ready_or_ended() { grep -qa READY=1 "$RUN/notified" || [ -s "$RUN/exit-status" ]; }

# Ends the daemon; it must leave cleanly.
stop_blkbackd() {
    local status
    [ -s "$RUN/pid" ] || return 0
    status=$(cat "$RUN/exit-status" 2>/dev/null || true)
    if [ "$status" ]; then
        rm "$RUN/pid"
        fail "blkbackd had ended by itself with status $status: $(tail -n 5 "$LOG")"
    fi
    kill -TERM "$(cat "$RUN/pid")"
    until_true 15 test -s "$RUN/exit-status" || fail "blkbackd does not stop within 15 s"
    rm "$RUN/pid"
    expect_equal "exit status of blkbackd" 0 "$(cat "$RUN/exit-status")"
}

status() { blkbackctl status "$@"; }

workers() { pidof blkbackd-worker; }

# --- images --------------------------------------------------------------------------------------------------------------

# image NAME SIZE [FOLDER]: makes a sparse raw image; its path goes to standard output
image() {
    mkdir -p "${3:-$WORK}"
    truncate -s "$2" "${3:-$WORK}/$1"
    echo "${3:-$WORK}/$1"
}

# Checks an image's ext4 file system from outside the guest.
check_filesystem() {
    e2fsck -fn "$1" >"$RUN/fsck" 2>&1 || fail "e2fsck finds faults in $1: $(tail -n 5 "$RUN/fsck")"
}

# disk VDEV TARGET [ACCESS]: xl's specification of a disk of ours
disk() { echo "backendtype=phy,vdev=$1,access=${3:-rw},format=raw,script=$HOOK,target=$2"; }

# --- guests --------------------------------------------------------------------------------------------------------------

# guest_config NAME DISK...: writes $WORK/NAME.cfg
guest_config() {
    local name=$1 disks='' spec
    shift
    for spec in "$@"; do disks+="${disks:+, }\"$spec\""; done
    mkdir -p "$WORK"
    cat >"$WORK/$name.cfg" <<CFG
name = "$name"
memory = $GUEST_MEMORY
vcpus = 1
cpus = "$GUEST_CPU"
on_crash = "destroy"
on_reboot = "restart"
disk = [ $disks ]
CFG
    if ! grep -qE '^(bootloader|kernel)' <<<"$GUEST_CONFIG"; then
        cat >>"$WORK/$name.cfg" <<CFG
kernel = "/boot/vmlinux"
ramdisk = "/boot/guest.cpio"
extra = "$GUEST_LINUX $GUEST_ARGS"
CFG
    fi
    printf '%s\n' "$GUEST_CONFIG" >>"$WORK/$name.cfg"
}

# guest_start NAME DISK...: creates a guest and waits until it takes commands
guest_start() {
    local name=$1 output
    guest_config "$@"
    rm -f "$(console "$name")"
    say "creating guest $name"
    output=$(xl create "$WORK/$name.cfg" 2>&1) || fail "xl create $name: $output"
    say "created guest $name"
    guest_wait "$name"
    say "guest $name is up"
}

console() { echo "/share/console/guest-$1.log"; }

# until_said SECONDS NAME COMMAND...: repeats the command until it succeeds, each time that the guest's console has something
# new: that alone takes no process
until_said() {
    local deadline=$((SECONDS + $1 + 1)) log seen
    log=$(console "$2")
    seen=/share/console/.seen-$2-$BASHPID # beside the log, for the same clock
    shift 2
    while echo >"$seen"; ! "$@"; do
        until [ "$log" -nt "$seen" ]; do
            [ $SECONDS -lt $deadline ] || return 1
            pause
        done
    done
}

# guest_wait NAME [BOOTS]: waits until the guest has booted (that many times)
guest_wait() {
    until_said "$BOOT_SECONDS" "$1" guest_booted "$1" "${2:-1}" || fail "guest $1 does not boot: $(tail -n 8 "$(console "$1")" 2>&1)"
    # asked once per boot: xl takes a third of a second
    xl domid "$1" >"$RUN/domid-$1"
    xenstore-read "/local/domain/$(domid "$1")/console/tty" >"$RUN/tty-$1"
}

# guest_wait_slow NAME: the same for a guest that takes minutes; asked seldom, since dom0's CPU is what it waits for
guest_wait_slow() {
    local n
    for ((n = 0; n < 60; n++)); do
        sleep 5
        if guest_booted "$1" 1 2>/dev/null; then break; fi
    done
    guest_wait "$1"
}

guest_booted() { [ -e "/share/console/guest-$1.log" ] && [ "$(grep -ac '^@READY' "/share/console/guest-$1.log")" -ge "$2" ]; }

domid() { echo "$(<"$RUN/domid-$1")"; }

# guest_begin NAME COMMAND: starts a command (one line of shell) in the guest; guest_end NAME waits for it
guest_begin() {
    local id
    id=$((${run_ids[$1]:-0} + 1))
    # Several shells of one case (pipes, substitutions) must not use an id twice.
    while [ -e "$RUN/guest-$1-$id" ]; do id=$((id + 1)); done
    : >"$RUN/guest-$1-$id"
    run_ids[$1]=$id
    printf 'RUN %s %s\n' "$id" "${2//$'\n'/ ; }" >"$(<"$RUN/tty-$1")"
    echo "$id" >"$RUN/guest-$1-last"
}

# guest_end NAME [SECONDS]: waits for the guest's last command; prints what it said, returns its status
guest_end() {
    local id status=255
    read -r id <"$RUN/guest-$1-last"
    until_said "${2:-60}" "$1" guest_answered "$id" "/share/console/guest-$1.log" ||
        fail "the command does not end in guest $1 within ${2:-60} s: $(tail -n 8 "$(console "$1")")"
    return $status
}

# guest_answered ID LOG: prints what the command said and sets `status` to its own; false while it has not ended
guest_answered() {
    status=0
    guest_answer "$@" || status=$?
    [ $status -ne 255 ]
}

# guest_answer ID LOG: prints what the command said and returns its status, or 255 while it is not there
guest_answer() {
    awk -v id="$1" '
        { sub(/\r$/, "") }
        $1 == "@END" && $2 == id { end = 1; status = $3; exit }
        inside { said = said $0 "\n" }
        $1 == "@BEGIN" && $2 == id { inside = 1; said = "" }
        END { if (!end) exit 255; printf "%s", said; exit (status > 254 ? 254 : status) }' "$2"
}

# guest NAME COMMAND [SECONDS]: runs a command in the guest; its output and status are this function's
guest() {
    guest_begin "$1" "$2"
    guest_end "$1" "${3:-60}"
}

# guest_check NAME COMMAND [SECONDS]: the same, and it must succeed
guest_check() {
    local output status=0
    output=$(guest "$@") || status=$?
    [ $status -eq 0 ] || fail "in guest $1: '$2' gives $status: $(tail -n 6 <<<"$output")"
    printf '%s\n' "$output"
}

# verify_job FILE [light]: a shell command for the guest that writes with fio and verifies every block: requests of several
# shapes at once in the first 20 MiB, or, when light, small ones only in the first 2
verify_job() {
    local jobs="--name=small --rw=randwrite --bs=4k --size=2m --iodepth=32"
    [ "${2:-}" = light ] || jobs+=" --name=big --offset=4m --size=8m --rw=write --bs=1m --iodepth=4
        --name=odd --offset=12m --size=128k --rw=randwrite --bs=512 --iodepth=8
        --name=mixed --offset=16m --size=4m --rw=randrw --bsrange=4k-128k --iodepth=16"
    echo "fio --output=/run/fio.log --eta=never --thread --ioengine=libaio --direct=1 --filename=$1 --verify=crc32c --verify_fatal=1" \
        "${jobs//$'\n'/} || { tail -n 20 /run/fio.log; false; }"
}

# guest_verify NAME FILE [light]
guest_verify() {
    guest_check "$1" "$(verify_job "$2" "${3:-}")" 120 >/dev/null
    say "verified $2 in guest $1"
}

# Shuts the guest down and waits until its domain is gone.
guest_shutdown() {
    printf 'RUN 0 sync; poweroff -f\n' >"$(cat "$RUN/tty-$1")"
    until_true 60 no_domain "$(domid "$1")" || fail "guest $1 does not shut down"
}

no_domain() { ! xenstore-exists "/local/domain/$1"; }

# attach NAME VDEV TARGET [ACCESS], detach NAME VDEV: hot plug, waited for in the guest
attach() {
    local output
    output=$(xl block-attach "$1" "$(disk "$2" "$3" "${4:-rw}")" 2>&1) || fail "xl block-attach $1 $2: $output"
    # shellcheck disable=SC2016 # expanded in the guest
    guest_check "$1" 'n=0; until [ "$(cat /sys/block/'"$2"'/size)" -gt 0 ] || [ $n = 100 ]; do n=$((n + 1)); sleep 0.1; done; [ -b /dev/'"$2 ]" \
        >/dev/null
}

detach() {
    local output
    output=$(xl block-detach "$1" "$2" 2>&1) || fail "xl block-detach $1 $2: $output"
}

node_is() { [ "$(xenstore-read "$1" 2>/dev/null)" = "$2" ]; }

# devid VDEV: the number of a device name
devid() {
    local letter
    letter=$(printf '%d' "'${1:3:1}")
    echo $(((202 << 8) + ((letter - 97) << 4)))
}

# frontend NAME VDEV KEY, backend NAME VDEV KEY: a node of either side
frontend() { xenstore-read "/local/domain/$(domid "$1")/device/vbd/$(devid "$2")/$3"; }
backend() { xenstore-read "/local/domain/0/backend/vbd/$(domid "$1")/$(devid "$2")/$3"; }

# --- what is left behind -------------------------------------------------------------------------------------------------

backend_nodes() { xenstore-ls -f /local/domain/0/backend 2>/dev/null | grep -E '/backend/(vbd|vbd3|qdisk)/[0-9]+/[0-9]+' || true; }
no_backend_nodes() { [ -z "$(backend_nodes)" ]; }
no_workers() { ! workers; }
no_state_files() { [ -z "$(find "$STATE_DIR" -name '*.conn' -o -name '*.slab' 2>/dev/null)" ]; }

# in_use PATH: a process of the daemon's has it open
in_use() {
    local inode pid folders=()
    inode=$(stat -Lc %d:%i "$1") || return 1
    for pid in $(pidof blkbackd blkbackd-worker); do folders+=("/proc/$pid/fd/"*); done
    [ ${#folders[@]} -gt 0 ] || return 1
    stat -Lc %d:%i "${folders[@]}" 2>/dev/null | grep -qx "$inode"
}
released() { ! in_use "$1"; }

# The case's images that the daemon has open.
open_images() {
    local files pid folders=()
    files=$(find "$WORK" "$RAM" -maxdepth 1 -type f -printf '%D:%i %p\n')
    for pid in $(pidof blkbackd blkbackd-worker); do folders+=("/proc/$pid/fd"); done
    if [ -z "$files" ] || [ ${#folders[@]} = 0 ]; then return 0; fi
    { find -L "${folders[@]}" -type f -printf '%D:%i\n' 2>/dev/null || true; } |
        awk -v files="$files" '{ open[$1] = 1 } END { n = split(files, file, "\n")
            for (i = 1; i <= n; i++) if (substr(file[i], 1, index(file[i], " ") - 1) in open) print file[i] }'
}
no_open_images() { [ -z "$(open_images)" ]; }

domains() { xl list | awk 'NR > 1 && $2 != 0 { print $1 }'; }
no_domains() { [ -z "$(domains)" ]; }

# expect_clean [no-domains]: checks that nothing of the guests is left: domains, unless it is known that there are none, nodes,
# workers, state files, open images
expect_clean() {
    [ "${1:-}" = no-domains ] || until_true 10 no_domains || fail "domains are left: $(domains)"
    until_true 10 no_backend_nodes || fail "backend nodes are left: $(backend_nodes | head -n 3)"
    [ -s "$RUN/pid" ] || return 0
    until_true 10 no_workers || fail "workers are left: $(workers)"
    until_true 5 no_state_files || fail "state files are left: $(ls "$STATE_DIR")"
    until_true 5 no_open_images || fail "images are still open: $(open_images)"
}

# After a failure: what somebody who looks for the reason wants, into /share/failed/CASE.
gather_evidence() {
    local folder=/share/failed/$CASE name
    mkdir -p "$folder"
    xenstore-ls -f >"$folder/xenstore"
    xl list -l >"$folder/domains" 2>&1
    xl dmesg >"$folder/xl-dmesg"
    dmesg >"$folder/dmesg"
    [ ! -s "$RUN/pid" ] || timeout 5 blkbackctl status --json >"$folder/status.json" 2>&1
    for name in $(domains); do
        (guest_begin "$name" 'dmesg | tail -n 60; ps; cat /proc/interrupts' && guest_end "$name" 5) >"$folder/guest-$name-state" 2>&1
    done
    cp /share/console/* "$LOG" "$folder/" 2>/dev/null
}

# Runs when the case ends, however it ends; what it finds changes a success into a failure.
case_end() {
    local status=$? name left
    trap - EXIT
    set +e
    case $status in 0 | 77) ;; *) gather_evidence ;; esac
    left=$(domains) # asked once where it can be: xl takes half a second
    for name in $left; do xl destroy "$name"; done
    (if [ -n "$left" ]; then expect_clean; else expect_clean no-domains; fi) || { [ $status -ne 0 ] || status=1; }
    (stop_blkbackd) || { [ $status -ne 0 ] || status=1; }
    # After a failure the next case must not find this one's remains.
    if [ $status -ne 0 ]; then
        for name in $(pidof blkbackd blkbackd-worker); do kill -KILL "$name" 2>/dev/null; done
        for name in $(domains); do xl destroy "$name" >/dev/null 2>&1; done
    fi
    xenstore-rm /local/domain/0/backend/vbd 2>/dev/null
    umount "$RUN"/* 2>/dev/null
    losetup -D
    dmsetup remove_all --force --noudevsync >/dev/null 2>&1
    lsmod | grep -q '^xen_blkback' && modprobe -r xen-blkback
    rm -rf "$WORK" "$RAM" "$RUN" /run/blkbackd "${CONFIG%/*}" /share/console/.seen-*
    exit $status
}

mkdir -p "$WORK" "$RAM" "$RUN" /share/logs
trap case_end EXIT
