# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# For cases in which a guest attacks the daemon with the frontend of tests/xen/attacker while another does verified I/O: who has
# to notice nothing, and how fast it goes on. Sourced by those cases; between hostile_begin and hostile_end are its attacks.
# shellcheck source=tests/xen/share/deaths.sh
. /share/deaths.sh

[ "$BACKEND" = blkbackd ] || skip "about blkbackd"

LEAST=0.25                      # of the neighbour's requests per second before or after, during all attacks together
ATTACK_SECONDS=1                # that each is repeated for, at least
COMPUTE_SECONDS=5               # in which it is measured what the neighbour has without attacks
[ "$LONG" = 0 ] || ATTACK_SECONDS=4 COMPUTE_SECONDS=8
xen_lines=$(xl dmesg | wc -l)

# shellcheck disable=SC2034 # used by the cases
# hostile_begin: the daemon, the neighbour at work, and the attacker with a disk xvda and a read-only one xvdb
hostile_begin() {
    start_blkbackd
    image read-only.raw 16M >/dev/null
    unwritten=$(sha256sum <"$WORK/read-only.raw")
    neighbour_start
    attacker_start
    # how the attacker is told of its neighbour
    other="-o $(domid neighbour) -r $(frontend neighbour xvda ring-ref)"
    processes=$(processes)
    all_requests=0 all_milliseconds=0
    usual=$(undisturbed)
}

# A guest whose kernel has no frontend for its disks, and the program that has.
attacker_start() {
    local tree=$RUN/tree
    mkdir -p "$tree/usr/bin" "$tree/modules"
    cp /share/attacker/blkback-attacker "$tree/usr/bin/"
    find "/lib/modules/$(uname -r)" '(' -name 'xen-gntalloc.ko' -o -name 'xen-evtchn.ko' ')' -exec cp '{}' "$tree/modules/" ';'
    (cd "$tree" && find . | busybox cpio -o -H newc -R 0:0 2>/dev/null) | cat /boot/small.cpio - >"$WORK/attacker.cpio"
    GUEST_CPU=2 GUEST_MEMORY=128 GUEST_CONFIG='kernel = "/boot/vmlinux"
ramdisk = "'"$WORK"'/attacker.cpio"
extra = "'"$GUEST_LINUX"' blkfront=none"' \
        guest_start attacker "$(disk xvda "$(image disk.raw 64M)")" "$(disk xvdb "$WORK/read-only.raw" ro)"
    guest_check attacker 'insmod /modules/xen-gntalloc.ko && insmod /modules/xen-evtchn.ko && ls /dev/xen' >/dev/null
}

# A guest that writes and verifies its disk without a pause.
neighbour_start() {
    guest_start neighbour "$(disk xvda "$(image neighbour.raw 64M)")"
    guest_check neighbour "(fio --output=/run/fio.log --eta=never --thread --ioengine=libaio --direct=1 --filename=/dev/xvda --verify=crc32c \
        --verify_fatal=1 --name=small --rw=randwrite --bs=4k --size=2m --iodepth=8 --loops=100000; echo \$? >/run/over) >/dev/null 2>&1 &" >/dev/null
    guest_check neighbour 'dmesg | wc -l' >"$RUN/guest-dmesg"
    until_true 20 neighbour_runs || fail "the neighbour does nothing"
}
neighbour_requests() {
    status --json --interval 0 "$(domid neighbour)" xvda | awk -F '[:,]' '/"(reads|writes)"/ { n += $2 } END { print n }'
}
neighbour_runs() { [ "$(neighbour_requests)" -gt 100 ]; }
processes() { echo "$(<"$RUN/pid") $(workers)"; }

# measure COMMAND...: runs it; $requests of the neighbour's in $milliseconds meanwhile, and what it $said
measure() {
    local begun=$EPOCHREALTIME from status=0
    from=$(neighbour_requests)
    said=$("$@") || status=$?
    requests=$(($(neighbour_requests) - from))
    milliseconds=$(awk -v a="$begun" -v b="$EPOCHREALTIME" 'BEGIN { printf "%d", (b - a) * 1000 }')
    return $status
}
# shellcheck disable=SC2154 # idle is lib.sh's
# guest_at_length NAME COMMAND SECONDS: as guest, but dom0's processor is left alone meanwhile
guest_at_length() {
    local id status deadline=$((SECONDS + $3))
    guest_begin "$1" "$2"
    read -r id <"$RUN/guest-$1-last"
    while [ $SECONDS -lt $deadline ]; do
        read -r -t 0.7 -u "$idle" || true
        status=0
        guest_answer "$id" "$(console "$1")" || status=$?
        [ $status -eq 255 ] || return $status
    done
    echo "not done after $3 s: $2"
    return 1
}
per_second() { echo $((1000 * $1 / $2)); }
share_of() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
at_least() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a >= b) }'; }

# How fast the neighbour is beside an attacker that does nothing but compute: the host's processors are QEMU's to share.
undisturbed() {
    # shellcheck disable=SC2016 # expanded in the guest
    measure guest_at_length attacker 'end=$(($(date +%s) + '$COMPUTE_SECONDS')); while [ $(date +%s) -lt $end ]; do :; done' 60 || fail "$said"
    per_second "$requests" "$milliseconds"
}

# judge_neighbour: after the attacks. Before or after, whichever is less: other work on a machine comes and goes.
judge_neighbour() {
    local now rate share
    if [ "$all_milliseconds" = 0 ]; then return; fi
    attack '' nothing
    now=$(undisturbed)
    rate=$(per_second "$all_requests" "$all_milliseconds")
    share=$(share_of "$rate" $((now < usual ? now : usual)))
    say "the neighbour: $usual requests/s before, $now after, $rate meanwhile: $share"
    at_least "$share" $LEAST || fail "the neighbour had $share of its requests per second"
    all_milliseconds=0
}

# attack OPTIONS ATTACK...: plays each; disk, daemon and neighbour must come out of it as they went in
attack() {
    local options=$1 one rate
    shift
    for one in "$@"; do
        measure guest_at_length attacker "blkback-attacker -t $ATTACK_SECONDS $options $one" 300 || fail "$(tail -n 3 <<<"$said")"
        all_requests=$((all_requests + requests))
        all_milliseconds=$((all_milliseconds + milliseconds))
        rate=$(per_second "$requests" "$milliseconds")
        say "${said//$'\r'/}; the neighbour: $rate requests/s, $(share_of "$rate" "$usual")"
        [ "$requests" -gt 0 ] || fail "during $one the neighbour stands still"
        expect_equal "processes after $one" "$processes" "$(processes)"
    done
}

# destroy_under_attack: the domain goes while its requests are in flight, and libxl does not wait for its backend in vain
destroy_under_attack() {
    local begun output
    judge_neighbour
    guest_begin attacker 'blkback-attacker flood'
    sleep 3
    begun=$EPOCHREALTIME
    output=$(xl -vvv destroy attacker 2>&1) || fail "the attacker can't be destroyed: $output"
    say "destroyed in $(awk -v a="$begun" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }') s"
    if grep -E 'wanted state .*timed out' <<<"$output" >"$RUN/timed-out"; then fail "the backend did not close in time: $(<"$RUN/timed-out")"; fi
    expect_text "what libxl says of the backend" 'wanted state 6 ok' "$output"
    until_true 10 only_the_neighbour || fail "the attacker's domain does not go: $(xl list)"
}
only_the_neighbour() { [ "$(xl list | wc -l)" -eq 3 ]; }

# hostile_end: the neighbour has read nothing wrong, no request of its failed, and it was served
hostile_end() {
    judge_neighbour
    # shellcheck disable=SC2016 # expanded in the guest
    guest_check neighbour 'killall -INT fio; n=0; until [ -e /run/over ] || [ $n = 60 ]; do n=$((n + 1)); sleep 1; done; grep -q "err= 0" /run/fio.log || { cat /run/fio.log; false; }' 80 >/dev/null
    expect_quiet_guest neighbour
    guest_verify neighbour /dev/xvda light
    expect_quiet_dom0
    expect_equal "what Xen says" "" "$(xl dmesg | tail -n +$((xen_lines + 1)))"
}
