#!/bin/sh
# A guest's process 1. It runs what dom0 writes to data/job (first line an id,
# the rest a script), prints the script's output to the console between two
# marks, and answers in data/done with the id and the exit status.
export PATH=/bin:/usr/bin:/sbin:/usr/sbin HOME=/root

mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
dmesg -n 1
ln -sf /proc/self/fd /dev/fd

echo "realxen: guest up, root is $(grep ' / ' /proc/mounts | tail -n 1 | cut -d' ' -f1)"

last=
xenstore-watch data/job | while read -r _; do
	xenstore-read -R data/job > /tmp/job 2> /dev/null || continue
	read -r id < /tmp/job
	[ "$id" != "$last" ] || continue
	last=$id
	sed 1d /tmp/job > /tmp/script
	echo "@@ $id begin"
	sh /tmp/script < /dev/null 2>&1
	status=$?
	echo "@@ $id end $status"
	xenstore-write data/done "$id $status"
done &

xenstore-write data/up 1
# xl shutdown arrives as control/shutdown, which the kernel answers by running
# poweroff; process 1 only has to reap.
while :; do
	wait
	sleep 3600
done
