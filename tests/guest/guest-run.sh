#!/bin/bash
# guest-run DOMAIN SECONDS < SCRIPT: runs SCRIPT inside the guest (see
# guest-init.sh) and prints what it printed. Exit status: the script's; 124 when
# it did not end in time, 125 when the guest has gone.
set -u
name=$1 deadline=$((SECONDS + $2))
domid=$(xl domid "$name") || exit 125
path=/local/domain/$domid/data
log=/var/log/xen/guest-$name.log
id=$(tr -d - < /proc/sys/kernel/random/uuid)

# await NODE VALUE-PREFIX: waits until NODE starts with the prefix. The end of any
# domain wakes it as well: a node that never existed tells nothing when it goes.
await() {
	local node=$1 want=$2 value
	exec 3< <(exec xenstore-watch "$node" @releaseDomain)
	local watcher=$!
	local result=124
	while read -r -t $((deadline > SECONDS ? deadline - SECONDS : 1)) -u 3 _; do
		value=$(xenstore-read "$node" 2> /dev/null)
		case $value in "$want"*) result=0; break ;; esac
		xenstore-exists "/local/domain/$domid" || { result=125; break; }
	done
	kill "$watcher" 2> /dev/null
	exec 3<&-
	return "$result"
}

await "$path/up" 1 || exit
xenstore-write -R "$path/job" "$id
$(cat)"
await "$path/done" "$id "
result=$?
# The guest's last lines may still be on their way through its console ring.
for _ in 1 2 3 4 5 6 7 8 9 10; do
	[ "$result" -eq 0 ] || break
	grep -q "^@@ $id end" "$log" && break
	sleep 0.1
done
# The hypervisor may know why.
[ "$result" -ne 125 ] || xl dmesg | tail -n 16 >&2
tr -d '\r' < "$log" | sed -n "/^@@ $id begin/,/^@@ $id end/p" | sed '1d;/^@@ .* end/d'
[ "$result" -eq 0 ] || exit "$result"
exit "$(xenstore-read "$path/done" | cut -d' ' -f2)"
