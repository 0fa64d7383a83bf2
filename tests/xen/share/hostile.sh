# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# For cases in which a guest attacks the daemon with the frontend of tests/xen/attacker while another does verified I/O: who has
# to notice nothing, and how fast it goes on. Sourced by those cases, before the daemon starts.
# shellcheck source=tests/xen/share/deaths.sh
. /share/deaths.sh

SHARE_KEPT=0.5                  # of the neighbour's requests per second, at least, during any attack
ATTACK_SECONDS=${ATTACK_SECONDS:-4}
xen_lines=$(xl dmesg | wc -l)

[ "$BACKEND" = blkbackd ] || skip "about blkbackd"

# attacker_start NAME DISK...: a guest whose kernel has no frontend for its disks, and the program that has
attacker_start() {
    local tree=$RUN/tree modules
    if [ ! -e "$WORK/attacker.cpio" ]; then
        modules=/lib/modules/$(uname -r)
        mkdir -p "$tree/usr/bin" "$tree/modules" "$WORK"
        cp /share/attacker/blkback-attacker "$tree/usr/bin/"
        find "$modules" '(' -name 'xen-gntalloc.ko' -o -name 'xen-evtchn.ko' ')' -exec cp '{}' "$tree/modules/" ';'
        (cd "$tree" && find . | busybox cpio -o -H newc -R 0:0 2>/dev/null) >"$RUN/attacker.cpio"
        cat /boot/small.cpio "$RUN/attacker.cpio" >"$WORK/attacker.cpio"
    fi
    GUEST_MEMORY=128 GUEST_CONFIG='kernel = "/boot/vmlinux"
ramdisk = "'"$WORK"'/attacker.cpio"
extra = "console=hvc0 quiet loglevel=4 panic=-1 blkfront=none"' guest_start "$@"
    guest_check "$1" 'insmod /modules/xen-gntalloc.ko && insmod /modules/xen-evtchn.ko && ls /dev/xen' >/dev/null
}

# neighbour_start NAME DISK: a guest that writes and verifies its disk without a pause
neighbour_start() {
    NEIGHBOUR=$1
    guest_start "$@"
    guest_check "$1" "(fio --output=/run/fio.log --eta=never --thread --ioengine=libaio --direct=1 --filename=/dev/xvda --verify=crc32c \
        --verify_fatal=1 --name=small --rw=randwrite --bs=4k --size=2m --iodepth=8 --loops=100000; echo \$? >/run/over) >/dev/null 2>&1 &" >/dev/null
    guest_check "$1" 'dmesg | wc -l' >"$RUN/guest-dmesg"
    until_true 20 neighbour_runs || fail "the neighbour does nothing"
}
neighbour_requests() {
    status --json --interval 0 "$(domid "$NEIGHBOUR")" xvda | awk -F '[:,]' '/"(reads|writes)"/ { n += $2 } END { print n }'
}
neighbour_runs() { [ "$(neighbour_requests)" -gt 100 ]; }

# measure COMMAND...: runs it; the neighbour's requests per second meanwhile are in $rate, what it said in $said
measure() {
    local begun=$EPOCHREALTIME from to status=0
    from=$(neighbour_requests)
    said=$("$@") || status=$?
    to=$(neighbour_requests)
    rate=$(awk -v n=$((to - from)) -v a="$begun" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.0f", n / (b - a) }')
    return $status
}

# undisturbed NAME: how fast the neighbour is beside an attacker that does nothing but compute
undisturbed() {
    # shellcheck disable=SC2016 # expanded in the guest
    measure guest "$1" 'end=$(($(date +%s) + 8)); while [ $(date +%s) -lt $end ]; do :; done' || fail "$said"
    usual=$rate
    processes=$(processes)
    say "the neighbour alone: $usual requests/s"
}

# attack NAME OPTIONS ATTACK...: plays each; the disk, the daemon and the neighbour must come out of it as they went in
attack() {
    local name=$1 options=$2 one share
    shift 2
    for one in "$@"; do
        measure guest "$name" "blkback-attacker -t $ATTACK_SECONDS $options $one" 100 || fail "$one: $(tail -n 3 <<<"$said")"
        share=$(awk -v a="$rate" -v b="$usual" 'BEGIN { printf "%.2f", a / b }')
        say "${said//$'\r'/}; the neighbour: $rate requests/s, $share of the usual"
        awk -v s="$share" -v least=$SHARE_KEPT 'BEGIN { exit !(s >= least) }' || fail "$one: the neighbour is left $share of its requests per second"
        expect_equal "processes after $one" "$processes" "$(processes)"
    done
}
processes() { echo "$(<"$RUN/pid") $(workers)"; }

# neighbour_end: nothing that it read was wrong, and no request failed
neighbour_end() {
    # shellcheck disable=SC2016 # expanded in the guest
    guest_check "$NEIGHBOUR" 'killall -INT fio; n=0; until [ -e /run/over ] || [ $n = 60 ]; do n=$((n + 1)); sleep 1; done; cat /run/over; grep -q "err= 0" /run/fio.log || { cat /run/fio.log; false; }' 80 >"$RUN/neighbour"
    expect_quiet_guest "$NEIGHBOUR"
    guest_verify "$NEIGHBOUR" /dev/xvda light
}

# expect_quiet_host: neither dom0's kernel nor Xen has anything to complain of
expect_quiet_host() {
    expect_quiet_dom0
    expect_equal "what Xen says" "" "$(xl dmesg | tail -n +$((xen_lines + 1)))"
}
