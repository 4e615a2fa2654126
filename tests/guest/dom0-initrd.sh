#!/bin/busybox sh
# /init of dom0's initial RAM disk: mounts the root disk and the host's share,
# then hands over to dom0-init.sh, which lives in the share so that changing it
# costs no new image.
/bin/busybox mkdir -p /bin /proc /sys /dev /root
/bin/busybox --install -s /bin
export PATH=/bin

fail() {
	echo "realxen: dom0 initrd: $1"
	poweroff -f
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev

while read -r module; do
	insmod "/modules/$module" || fail "cannot load $module"
done < /modules/order

mount -t ext4 /dev/vda /root || fail "cannot mount the root disk /dev/vda"
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 share /root/share ||
	fail "cannot mount the host's share"

for fs in proc sys dev; do
	mount --move "/$fs" "/root/$fs"
done
exec switch_root /root /bin/bash /share/boot/dom0-init.sh
