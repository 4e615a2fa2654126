#!/bin/busybox sh
# /init of a guest: finds the root filesystem on the disk that root= names. With
# no root=, it is in this RAM disk already.
/bin/busybox mkdir -p /bin /proc /sys /dev /root
[ -e /bin/sh ] || /bin/busybox --install -s /bin
export PATH=/bin

fail() {
	echo "realxen: guest initrd: $1"
	poweroff -f
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev

while read -r module; do
	insmod "/modules/$module" || fail "cannot load $module"
done < /modules/order

root=$(sed -n 's/.*root=\([^ ]*\).*/\1/p' /proc/cmdline)
[ -n "$root" ] || exec /sbin/init
mode=$(sed -n 's/.*rootmode=\([^ ]*\).*/\1/p' /proc/cmdline)

# blkfront connects in its own time and nothing but the node's appearance tells.
tries=0
until [ -b "$root" ]; do
	tries=$((tries + 1))
	[ "$tries" -lt 600 ] || fail "root disk $root did not appear within 60 s"
	sleep 0.1
done

mount -t ext4 -o "${mode:-rw}" "$root" /root || fail "cannot mount $root"
for fs in proc sys dev; do
	mount --move "/$fs" "/root/$fs"
done
exec switch_root /root /sbin/init
