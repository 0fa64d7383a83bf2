# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: BSD-2-Clause
#
# dom0's part of scripts/bench --xen: one guest with a disk of each backend, all on the same kind of backing. Sourced after lib.sh.

declare -A bench_letter=([blkbackd]=a [persistent]=b [blkback]=c [loop]=c [loop_direct]=d [qdisk]=e [qdisk_direct]=f)

# bench_null N: makes the null_blk device /dev/nullbN, which answers at once and keeps nothing
bench_null() {
    local folder=/sys/kernel/config/nullb/nullb$1
    [ ! -b "/dev/nullb$1" ] || return 0
    modprobe null_blk nr_devices=0
    mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
    mkdir "$folder"
    echo 0 >"$folder/irqmode"
    echo 1024 >"$folder/size"
    echo 1 >"$folder/power"
}

# bench_file FOLDER NAME MIB: a file without holes; its path goes to standard output
bench_file() {
    mkdir -p "$1"
    dd if=/dev/zero of="$1/$2.raw" bs=1M count="$3" conv=fsync 2>/dev/null
    echo "$1/$2.raw"
}

# bench_target BACKING BACKEND: makes what one of the backends serves; its path goes to standard output
bench_target() {
    case $1 in
    null)
        bench_null $(($(printf '%d' "'${bench_letter[$2]}") - 97))
        echo "/dev/nullb$(($(printf '%d' "'${bench_letter[$2]}") - 97))"
        ;;
    memory) bench_file "$RAM" "$2" 64 ;;
    disk) bench_file "$WORK" "$2" 192 ;;
    *) fail "no backing named $1" ;;
    esac
}

# bench_disk BACKEND TARGET: xl's specification of its disk
bench_disk() {
    local vdev=xvd${bench_letter[$1]}
    case $1 in
    blkbackd) disk "$vdev" "$2" ;;
    persistent)
        printf '[disk]\ntarget = %s\npersistent-grants = copy\n' "$2" >"${CONFIG%/*}/disks.d/persistent.conf"
        disk "$vdev" disk:persistent
        ;;
    blkback | loop) HOOK=block disk "$vdev" "$2" ;;
    loop_direct) HOOK=block disk "$vdev" "$(losetup --direct-io=on --show -f "$2")" ;;
    qdisk) echo "backendtype=qdisk,vdev=$vdev,access=rw,format=raw,target=$2" ;;
    esac
}

# bench_qdisk_direct TARGET: adds a disk to the guest's QEMU with O_DIRECT, the thread pool and an iothread of its own. xl
# cannot ask for that: its direct-io-safe means Linux AIO to QEMU, which Debian's build lacks.
bench_qdisk_direct() {
    local driver=file
    [ ! -b "$1" ] || driver=host_device
    python3 - "/var/run/xen/qmp-libxl-$(domid g)" "$driver" "$1" "xvd${bench_letter[qdisk_direct]}" <<'PYTHON'
import json, socket, sys
path, driver, target, vdev = sys.argv[1:]
connection = socket.socket(socket.AF_UNIX)
connection.connect(path)
stream = connection.makefile("rw")

def ask(command, **arguments):
    stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    stream.flush()
    for line in stream:
        answer = json.loads(line)
        if "error" in answer:
            sys.exit("QEMU: " + answer["error"]["desc"])
        if "return" in answer:
            return

ask("qmp_capabilities")
ask("blockdev-add", driver="raw", cache={"direct": True}, **{"node-name": "direct", "file": {
    "driver": driver, "filename": target, "aio": "threads", "locking": "off"}})
ask("object-add", id="direct-thread", **{"qom-type": "iothread"})
ask("device_add", driver="xen-disk", id="direct-disk", vdev=vdev, drive="direct", iothread="direct-thread")
PYTHON
}

# bench_attach VDEV SPECIFICATION: adds a disk to the guest; tried again, since libxl's time-outs are short for a busy machine
bench_attach() {
    local n
    for n in 1 2 3; do
        # shellcheck disable=SC2016 # expanded in the guest
        if xl block-attach g "$2" &&
            guest g 'n=0; until [ "$(cat /sys/block/'"$1"'/size)" -gt 0 ] || [ $n = 100 ]; do n=$((n + 1)); sleep 0.1; done; [ -b /dev/'"$1 ]"; then
            return
        fi
        say "xl block-attach of $1 fails ($n)"
        xl block-detach g "$1" || true
    done
    fail "xl block-attach $2"
}

# bench_setup BACKING BACKEND...: starts the guest with their disks and puts /run/mark into it, which is run between any two
# measurements: it says how many interrupts there were, and waits for a line from dom0
bench_setup() {
    local backing=$1 backend target
    shift
    modprobe xen-blkback
    ENGINE=${BENCH_ENGINE:-}
    start_blkbackd
    GUEST_LINUX="console=hvc0 quiet loglevel=4 panic=-1" # with the mitigations that others have
    GUEST_MEMORY=512
    GUEST_ARGS="blkfront.max_ring_page_order=${BENCH_RING_ORDER:-0}"
    # xl starts QEMU with the guest or not at all
    target=$(bench_target "$backing" qdisk)
    guest_config g "$(bench_disk qdisk "$target")"
    rm -f "$(console g)"
    xl create "$WORK/g.cfg" || fail "xl create"
    guest_wait_slow g
    for backend in "$@"; do
        [ "$backend" != qdisk ] || continue
        target=$(bench_target "$backing" "$backend")
        if [ "$backend" = qdisk_direct ]; then
            bench_qdisk_direct "$target"
        else
            bench_attach "xvd${bench_letter[$backend]}" "$(bench_disk "$backend" "$target")"
        fi
    done
    sync
    # shellcheck disable=SC2016 # for the guest
    guest_check g 'echo '\''echo "@MARK $1 $(awk "/blkif/ { s += \$2 } END { print s }" /proc/interrupts)" >/dev/hvc0; read x </dev/hvc0; sleep 0.2'\'' >/run/mark' >/dev/null
    for backend in "$@"; do
        guest_check g "dd if=/dev/xvd${bench_letter[$backend]} of=/dev/null bs=64k count=64 iflag=direct 2>&1" >/dev/null
    done
}
