#!/usr/bin/env bash
# A machine with hardware virtualization, in software: QEMU without KVM (TCG) emulates an AMD CPU with SVM and nested
# paging, and a stock Debian kernel runs on it with kvm_amd as its /dev/kvm. What runs in there shows how things behave
# on such a host; how long it takes means nothing.
#
#   lab.sh fetch                 download Debian's kernel and BusyBox, once; implied by run
#   lab.sh run SCRIPT [FILE…]    boot the lab, run SCRIPT in it as root with the FILEs beside it in /job
#
# SCRIPT is for BusyBox's shell; modprobe loads kvm_amd and MODULES, which are there with what they need. A FILE that is a
# program brings the libraries that it is linked with. What SCRIPT leaves in /out is in $LAB/out afterwards; its output is
# the console's.
#
# fetch and run install what they need of this host when they run as root, and say what to install otherwise.
#
# Exit codes of run: 0 SCRIPT came to its end (whatever it says of itself), 75 it did not, 1 the lab cannot be had.
# Environment: LAB (working directory), TIMEOUT in seconds, APPEND (more of the kernel's command line), MODULES (names).
#
# The lab has one CPU, whose clocks count instructions (QEMU's icount): a busy host neither makes them disagree nor loses
# a timer. Two CPUs do not come up that way, and hang now and then without it.
. "$(dirname "$0")/common.sh"

TIMEOUT=${TIMEOUT:-900}

fetch() {
    need qemu-system-x86_64:qemu-system-x86 dpkg-deb:dpkg depmod:kmod cpio:cpio
    [[ ! -e $LAB/fetched ]] || return 0
    command -v apt-get >/dev/null || die "fetches Debian's packages with apt-get, and there is none"
    [[ $EUID -ne 0 ]] || apt-get update -q
    # The cloud kernel has kvm_amd and needs no module to start from an initramfs. The package depends on the newest.
    local kernel package
    kernel=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9]\)/\1/p' | head -n 1)
    [[ -n $kernel ]] || die "apt knows no linux-image-cloud-amd64; as root: apt-get update"
    rm -rf "$LAB/packages" "$LAB/root"
    mkdir -p "$LAB/packages" "$LAB"/root/usr/{bin,lib}
    # Packages of either kind, with a merged /usr and without, end up in the same place.
    ln -s usr/bin usr/lib "$LAB/root/"
    (cd "$LAB/packages" && apt-get download -q -o APT::Sandbox::User=root "$kernel" busybox-static)
    for package in "$LAB"/packages/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$LAB/root"
    done
    touch "$LAB/fetched"
}

# The file system of the lab: BusyBox, the modules, SCRIPT and the FILEs.
initramfs() {
    local script=$1 tree=$LAB/tree module library version
    shift
    version=$(ls "$LAB/root/lib/modules")
    rm -rf "$tree"
    mkdir -p "$tree"/{bin,dev,proc,sys,tmp,run,root,job,out,etc,"lib/modules/$version"}
    cp "$LAB/root/bin/busybox" "$tree/bin/"
    depmod -b "$LAB/root" "$version"
    cp "$LAB/root/lib/modules/$version"/modules.{order,builtin,builtin.modinfo} "$tree/lib/modules/$version/"
    while read -r module; do
        module_into "$module" "$tree/lib/modules/$version/"
    done < <(for module in kvm_amd ${MODULES:-}; do
        modprobe -S "$version" -d "$LAB/root" --show-depends "$module"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }')
    depmod -b "$tree" "$version"

    cp "$script" "$tree/job/script"
    [[ $# -eq 0 ]] || cp "$@" "$tree/job/"
    while read -r library; do
        mkdir -p "$tree${library%/*}"
        cp --dereference "$library" "$tree$library"
    done < <(for file in "$@"; do ldd "$file" 2>/dev/null || true; done | grep --only-matching '/[^ ]*' | sort -u)

    cat >"$tree/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
cd /job
sh /job/script
# The second serial line carries /out; the marker is the last of it.
touch /out/.complete
stty -F /dev/ttyS1 raw
tar -c -f /dev/ttyS1 -C / out
poweroff -f
INIT
    chmod 755 "$tree/init"
    (cd "$tree" && find . | cpio --create --format=newc --quiet --owner=0:0) >"$LAB/initramfs"
    rm -rf "$tree"
}

# module_into FILE DIRECTORY: uncompressed, since BusyBox hands the file to the kernel as it is.
module_into() {
    local name
    name=$(basename "$1")
    name=${name%.xz}
    name=${name%.zst}
    case $1 in
        *.xz) xz -dc "$1" >"$2/$name" ;;
        *.zst) zstd -qdc "$1" >"$2/$name" ;;
        *) cp "$1" "$2" ;;
    esac
}

run() {
    [[ $# -gt 0 ]] || die "run needs a script"
    fetch
    initramfs "$@"
    rm -rf "$LAB/out" "$LAB/out.tar"
    # tsc=reliable: without it the kernel distrusts the emulated TSC and takes a clock that costs far more.
    timeout --foreground --kill-after=5 "$TIMEOUT" qemu-system-x86_64 -machine q35 -accel tcg -icount shift=5,sleep=off \
        -cpu max -m 2G \
        -nodefaults -display none -no-reboot -serial stdio -serial "file:$LAB/out.tar" \
        -kernel "$LAB"/root/boot/vmlinuz-* -initrd "$LAB/initramfs" \
        -append "console=ttyS0 quiet panic=-1 tsc=reliable ${APPEND:-}" </dev/null || true
    # QEMU's exit code says nothing: a machine that reset itself ends as well as one that was switched off.
    tar -x -C "$LAB" -f "$LAB/out.tar" 2>/dev/null || true
    [[ -e $LAB/out/.complete ]] || return "$INCONCLUSIVE"
}

case ${1:-} in
    fetch | run) "$@" ;;
    *)
        sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
