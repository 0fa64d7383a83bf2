# shellcheck shell=bash disable=SC2016
# SPDX-License-Identifier: BSD-2-Clause
#
# What scripts/demo shows, in dom0: a guest whose disk is a file that blkbackd serves. Sourced after lib.sh; DEMO_SHELL=1 leaves
# the guest running.

# shellcheck source=tests/xen/share/deaths.sh
. /share/deaths.sh

step() { echo "==> $*"; }
taken_up() { [ "$(grep -c "taken up again" "$LOG")" -ge "$1" ]; }
in_dom0() { echo "    dom0# $*"; "$@" 2>&1 | sed 's/^/        /'; }
in_guest() {
    echo "    guest# $1"
    guest_check demo "$1" 2>&1 | sed '/^$/d; s/^/        /'
}

step "starting blkbackd and waiting until it says that it is ready"
start_blkbackd >/dev/null
in_dom0 blkbackctl ping 2>/dev/null || fail "blkbackctl cannot reach blkbackd"

disk=$WORK/disk.raw
step "making a raw image and creating a guest with it"
in_dom0 truncate -s 256M "$disk"
guest_config demo "$(disk xvda "$disk")"
in_dom0 grep '^disk' "$WORK/demo.cfg"
rm -f "$(console demo)"
in_dom0 xl create "$WORK/demo.cfg"
guest_wait demo

step "the guest makes a file system, writes files, syncs and reads them back"
in_guest 'mkfs.ext4 -q /dev/xvda && mount /dev/xvda /mnt && df -h /mnt'
in_guest 'dd if=/dev/urandom of=/mnt/random bs=1M count=24 conv=fsync 2>&1 | tail -n 1'
in_guest 'mkdir /mnt/etc; for i in $(seq 100); do echo "file $i" >/mnt/etc/$i; done; sync; echo 3 >/proc/sys/vm/drop_caches'
in_guest 'md5sum /mnt/random; cat /mnt/etc/* | md5sum'
random=$(guest_check demo 'md5sum </mnt/random')
small=$(guest_check demo 'cat /mnt/etc/* | md5sum')

step "meanwhile, in dom0"
in_dom0 xl list
in_dom0 blkbackctl status

step "the guest copies a file again and again, while the worker that serves it is killed, and then blkbackd itself"
in_guest '(while [ ! -e /run/stop ]; do dd if=/mnt/random of=/mnt/copy bs=1M conv=fsync 2>/dev/null || echo >>/run/failed; echo >>/run/copies; done; echo >/run/over) &'
sleep 1
in_dom0 kill -KILL "$(workers)"
until_true 10 taken_up 1 || fail "no other worker has taken over"
sleep 1
echo "    dom0# kill -KILL $(<"$RUN/pid")    # blkbackd; and started again, as systemd does"
crash_and_restart 2>/dev/null
until_true 10 taken_up 2 || fail "the next blkbackd has not taken over"
in_dom0 grep -h "taken up again" "$LOG"
in_guest 'touch /run/stop; until [ -e /run/over ]; do sleep 1; done; echo "$(wc -l </run/copies) copies, $(cat /run/failed 2>/dev/null | wc -l) failed"; cmp /mnt/random /mnt/copy && echo the same'
expect_equal "errors in the guest's kernel log" 0 "$(guest_check demo 'dmesg | grep -ciE "i/o error|blk_update|hung" || true' | tr -dc 0-9)"

if [ "${DEMO_SHELL:-0}" = 1 ]; then
    # The guest and the daemon stay, the guest with a shell at its console.
    echo SHELL >"$(cat "$RUN/tty-demo")"
    trap - EXIT
    exit 0
fi

step "the guest shuts down"
in_guest 'umount /mnt'
guest_shutdown demo
expect_clean
in_dom0 blkbackctl status
in_dom0 tail -n 3 "$LOG"

step "the image, looked at from outside the guest"
check_filesystem "$disk"
echo "        e2fsck: no faults"
mkdir -p "$RUN/mnt"
mount -o ro,loop "$disk" "$RUN/mnt"
expect_equal "checksum of the large file" "$random" "$(md5sum <"$RUN/mnt/random")"
expect_equal "checksum of the small files" "$small" "$(cat "$RUN"/mnt/etc/* | md5sum)"
umount "$RUN/mnt"
echo "        checksums: 24 MiB of random data and 100 small files are what the guest read"

step "blkbackd stops"
stop_blkbackd
