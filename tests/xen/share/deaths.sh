# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# For cases in which the daemon's processes die under a guest: how they die, the load that is on the disks meanwhile, and what
# the guest and XenStore are watched for. Sourced by those cases.

SUPERVISED=()                   # settings with which the daemon is started again

# kill_blkbackd: ends the broker as a crash would; its workers end by themselves
kill_blkbackd() {
    kill -KILL "$(<"$RUN/pid")"
    until_true 10 test -s "$RUN/exit-status" || fail "the broker outlives SIGKILL"
    expect_equal "exit status of the killed broker" 137 "$(<"$RUN/exit-status")"
    rm "$RUN/pid"
}

# crash_and_restart, stop_and_restart: what a supervisor does after a crash, and what an upgrade does
crash_and_restart() { kill_blkbackd; start_blkbackd "${SUPERVISED[@]}" >/dev/null; }
stop_and_restart() { stop_blkbackd; start_blkbackd "${SUPERVISED[@]}" >/dev/null; }

kill_worker() {
    local pid
    pid=$(workers) || return 1
    # shellcheck disable=SC2086 # there may be several
    kill -KILL $pid 2>/dev/null
}

# --- the load ------------------------------------------------------------------------------------------------------------

# load_job DEVICE SEED: fio with several requests in flight; each pass writes other bytes to the same places, then reads them.
# A block of a former pass fails the verification.
load_job() {
    echo "fio --output=/run/fio-${1##*/}.log --eta=never --thread --ioengine=libaio --direct=1 --filename=$1 --verify=crc32c" \
        "--verify_fatal=1 --randseed=$2 --name=small --rw=randwrite --bs=4k --size=1m --iodepth=16" \
        "--name=large --offset=4m --rw=write --bs=128k --size=4m --iodepth=4"
}

# load_start NAME VDEV...: passes of the load in the guest, one after the other, until load_stop
# shellcheck disable=SC2016 # expanded in the guest
load_start() {
    local name=$1 vdev job
    shift
    rm -f "$RUN/guest-dmesg"
    for vdev in "$@"; do
        job=$(load_job "/dev/$vdev" '$n')
        guest_check "$name" '(n=1; while [ ! -e /run/stop ]; do '"$job"' || { echo $n >/run/failed-'"$vdev"'; break; }; echo $n >/run/passes-'"$vdev"'; n=$((n + 1)); done; echo >/run/over-'"$vdev"') >/dev/null 2>&1 &' >/dev/null
    done
    guest_check "$name" 'dmesg | wc -l' >"$RUN/guest-dmesg"
}

# load_stop NAME VDEV...: waits for the end of the passes that run; none may have failed
load_stop() {
    local name=$1 vdev
    shift
    guest_check "$name" 'touch /run/stop' >/dev/null
    for vdev in "$@"; do
        guest_check "$name" "n=0; until [ -e /run/over-$vdev ] || [ \$n = 90 ]; do n=\$((n + 1)); sleep 1; done; [ -e /run/over-$vdev ]" 100 >/dev/null
        guest_check "$name" "[ ! -e /run/failed-$vdev ] || { tail -n 12 /run/fio-$vdev.log; false; }" >/dev/null
        guest_check "$name" "cat /run/passes-$vdev" | tr -dc 0-9 >"$RUN/passes-$vdev"
        say "$(<"$RUN/passes-$vdev") passes verified on $vdev"
    done
    expect_quiet_guest "$name"
}

# load_verify_outside VDEV PATH: that the last pass is on the image, byte by byte, as seen from dom0
load_verify_outside() {
    sh -c "$(load_job "$2" "$(<"$RUN/passes-$1")") --verify_only" >/dev/null 2>&1 ||
        fail "$2 does not have what the guest wrote last: $(tail -n 12 "/run/fio-${2##*/}.log")"
}

# pings_start NAME VDEV, pings_stop NAME COUNT: a reader with one request at a time; the COUNT longest waits that it had are
# how long the guest saw nothing from its disk
pings_start() {
    guest_check "$1" "(fio --output=/dev/null --eta=never --thread --ioengine=libaio --direct=1 --filename=/dev/$2 --name=ping --rw=randread --bs=4k \
        --offset=9m --size=1m --thinktime=5000 --time_based --runtime=3000 --write_lat_log=/run/ping >/dev/null 2>&1 & echo \$! >/run/ping.pid; wait; echo >/run/over-ping) >/dev/null 2>&1 &" >/dev/null
}
pings_stop() {
    # shellcheck disable=SC2016 # expanded in the guest
    guest_check "$1" 'kill -INT $(cat /run/ping.pid); n=0; until [ -e /run/over-ping ] || [ $n = 30 ]; do n=$((n + 1)); sleep 1; done; [ -e /run/over-ping ]' >/dev/null
    guest_check "$1" "cut -d, -f2 /run/ping_lat.1.log | sort -rn | head -n $2" | tr -d ' \r' | sort -n |
        awk '/^[0-9]+$/ { p[n++] = $1 / 1e6 } END { printf "p50 %.0f ms, p99 %.0f ms, longest %.0f ms, of %d\n", p[int((n - 1) * 0.5 + 0.5)], p[int((n - 1) * 0.99 + 0.5)], p[n - 1], n }'
}

# --- what is watched -----------------------------------------------------------------------------------------------------

# expect_quiet_guest NAME: its kernel has said nothing since its lines were counted in $RUN/guest-dmesg, but for complaints about
# its clock, which emulation slows down
expect_quiet_guest() {
    local said
    said=$(guest_check "$1" "dmesg | tail -n +$(($(tr -dc 0-9 <"$RUN/guest-dmesg") + 1)) | grep -vE 'hrtimer|clocksource|clock-skew' || true")
    expect_equal "what the kernel of guest $1 says" "" "${said//$'\n'/}"
}

# expect_quiet_dom0: dom0's kernel has no complaint since this file was sourced; grants and pages of dead processes are its to
# clean up
expect_quiet_dom0() {
    local said
    said=$(dmesg | tail -n +$((dom0_lines + 1)) | grep -E 'BUG|WARNING|Bad page|Oops|I/O error|blocked for more' | head -n 3 || true)
    expect_equal "what dom0's kernel says" "" "$said"
}
dom0_lines=$(dmesg | wc -l)

# watch_states NAME VDEV...: from here on, every write to the state of either side is counted, also of the same value
watch_states() {
    local name=$1 vdev paths=()
    shift
    for vdev in "$@"; do
        paths+=("/local/domain/0/backend/vbd/$(domid "$name")/$(devid "$vdev")/state" "/local/domain/$(domid "$name")/device/vbd/$(devid "$vdev")/state")
    done
    : >"$RUN/states"
    stdbuf -oL xenstore-watch "${paths[@]}" >"$RUN/states" 2>/dev/null &
    echo $! >"$RUN/states-pid"
    # each watch fires once when it is set
    until_true 5 state_writes ${#paths[@]} || fail "the watch on the states does not begin"
    watched=${#paths[@]}
}
state_writes() { [ "$(wc -l <"$RUN/states")" -ge "$1" ]; }

expect_states_untouched() { expect_equal "states written" "$watched" "$(wc -l <"$RUN/states")"; }

# watch_end: the watch must have noticed that the guest went away, or it was blind
watch_end() {
    until_true 5 state_writes $((watched + 1)) || fail "the watch on the states is blind"
    kill "$(<"$RUN/states-pid")" 2>/dev/null || true
}

no_node() { ! xenstore-exists "$1"; }

# pauses: how long the daemon says that disks were without a worker
pauses() {
    sed -nE 's/.*taken up again by worker [0-9]+ after ([0-9]+) ms.*/\1/p' "$LOG" | sort -n |
        awk '{ p[n++] = $1 } END { printf "p50 %d ms, p99 %d ms, of %d\n", p[int((n - 1) * 0.5 + 0.5)], p[int((n - 1) * 0.99 + 0.5)], n }'
}
taken_up() { grep -c 'taken up again by worker' "$LOG" || true; }
