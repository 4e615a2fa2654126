#!/bin/sh
# build-guest.sh ROOT INIT disk|cpio OUT TOOL...: a guest's root filesystem with
# busybox and the tools. As a disk it has 160 MiB, and everything behind that is
# scratch space for tests, up to 256 MiB.
set -eu
root=$1 init=$2 form=$3 out=$4
shift 4
tree=$(mktemp -d) list=$(mktemp)
trap 'rm -rf "$tree" "$list"' EXIT

for dir in bin sbin proc sys dev tmp run root etc; do
	mkdir "$tree/$dir"
done
cp "$root/bin/busybox" "$tree/bin/"
for applet in $(chroot "$root" busybox --list); do
	[ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
done

# The real tools in place of, and beside, busybox's.
for tool in "$@"; do
	path=$(chroot "$root" sh -c "readlink -f \$(command -v $tool)")
	rm -f "$tree/bin/$tool"
	cp -L "$root$path" "$tree/bin/$tool"
	chroot "$root" ldd "$path" >> "$list"
done
sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/lib64[^ ]*\) .*/\1/p' "$list" |
	sort -u | while read -r library; do
	mkdir -p "$tree${library%/*}"
	cp -L "$root$library" "$tree$library"
done

cp "$init" "$tree/sbin/init"
# What the kernel calls for `xl shutdown`.
printf '#!/bin/sh\nsync\nmount -o remount,ro /\nexec /bin/busybox poweroff -f\n' > "$tree/sbin/poweroff"
chmod +x "$tree/sbin/init" "$tree/sbin/poweroff"
echo 'root:x:0:0::/root:/bin/sh' > "$tree/etc/passwd"

rm -f "$out"
case $form in
disk)
	mkfs.ext4 -q -F -L guest -d "$tree" "$out" 160M
	truncate -s 256M "$out"
	;;
cpio) (cd "$tree" && find . | cpio --quiet -o -H newc) > "$out" ;;
esac
