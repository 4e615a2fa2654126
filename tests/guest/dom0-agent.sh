#!/bin/bash
# Runs the host's jobs. A job arrives as a line "ID SECONDS" on the virtio
# serial port named "agent", its script being /share/jobs/ID/script; it is
# answered by a line "ID STATUS" once out and err stand beside the script.
# Jobs run side by side; 124 is the status of one that ran out of time.

port=
for name in /sys/class/virtio-ports/*/name; do
	[ "$(cat "$name")" = agent ] && port=/dev/$(basename "$(dirname "$name")")
done
[ -n "$port" ] || {
	echo "realxen: no virtio serial port named agent"
	exit 1
}

# What a job prints is collected in RAM first: one copy over the share instead
# of a round trip to the host for every line.
run_job() {
	local id=$1 seconds=$2 dir=/run/jobs/$1 status
	mkdir -p "$dir"
	timeout --kill-after=5 "$seconds" bash "/share/jobs/$id/script" \
		> "$dir/out" 2> "$dir/err" < /dev/null 3>&-
	status=$?
	cp "$dir/out" "$dir/err" "/share/jobs/$id/"
	rm -r "$dir"
	echo "$id $status" >&3
}

exec 3<> "$port"
echo "ready 0" >&3
while read -r id seconds <&3; do
	run_job "$id" "$seconds" &
done
