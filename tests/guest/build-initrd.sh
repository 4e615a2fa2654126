#!/bin/sh
# build-initrd.sh ROOT INIT OUT MODULE...: an initial RAM disk of busybox, INIT
# and the modules with all that they depend on, in loading order.
set -eu
root=$1 init=$2 out=$3
shift 3
tree=$(mktemp -d) list=$(mktemp)
trap 'rm -rf "$tree" "$list"' EXIT
version=$(ls "$root/lib/modules")

mkdir -p "$tree/bin" "$tree/modules"
cp "$root/bin/busybox" "$tree/bin/"
cp "$init" "$tree/init"
chmod +x "$tree/init"

# crc32c-intel is a mere wish of ext4's, and the emulated CPU lacks its instruction.
for module in "$@"; do
	chroot "$root" modprobe -S "$version" --show-depends "$module" >> "$list"
done
awk '$1 == "insmod" && !/crc32c-intel/ && !seen[$2]++ { print $2 }' "$list" | while read -r path; do
	name=${path##*/}
	cp "$root$path" "$tree/modules/"
	case $name in *.xz)
		unxz "$tree/modules/$name"
		name=${name%.xz}
		;;
	esac
	echo "$name" >> "$tree/modules/order"
done
[ -s "$tree/modules/order" ]
(cd "$tree" && find . | cpio --quiet -o -H newc | gzip -1) > "$out"
