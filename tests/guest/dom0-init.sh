#!/bin/bash
# dom0's process 1 in the real-Xen harness: brings up just what xl needs, then
# serves the host's jobs until the machine is ended from outside.
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/xen-4.17/bin HOME=/root LANG=C

fail() {
	echo "realxen: dom0 init: $1"
	sync
	echo o > /proc/sysrq-trigger
	sleep 60
}

# devtmpfs without udev lacks these, and Xen's locking.sh spins without them
# until libxl's ten seconds for a hotplug script are over.
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr

mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /run/lock /run/xen /run/xenstored /var/log/xen /var/lib/xen
hostname dom0
ip link set lo up

for module in xenfs xen-privcmd xen-evtchn xen-gntdev xen-gntalloc loop virtio_console; do
	modprobe "$module" || fail "cannot load $module"
done
mount -t xenfs xenfs /proc/xen || fail "cannot mount xenfs"

xenstored --pid-file /run/xenstored.pid || fail "xenstored does not start"
xen-init-dom0 > /dev/null || fail "xen-init-dom0 failed"
xenconsoled --log=guest --log-dir=/var/log/xen --pid-file=/run/xenconsoled.pid || fail "xenconsoled does not start"

# The stock toolstack reads its own scripts; ours join them from the share.
for script in /share/hotplug/*; do
	[ -f "$script" ] && install -m 755 "$script" /etc/xen/scripts/
done

if grep -qw realxen.shell /proc/cmdline; then
	setsid bash -c 'cd /share; exec bash -i <> /dev/hvc0 >&0 2>&1' &
fi

ln -sf /bin/busybox /usr/local/bin/poweroff
echo "realxen: dom0 up"
bash /share/boot/dom0-agent.sh
fail "the host has gone"
