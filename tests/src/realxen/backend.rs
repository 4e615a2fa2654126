//! Who serves the guests' devices: the daemon under test, or the kernel for comparison.

use std::time::Duration;

use anyhow::Context;

use super::dom0::Dom0;

/// How long the daemon may take to start and to stop, time for a busy host included.
const LIMIT: Duration = Duration::from_secs(60);

/// Starts the daemon and waits until it tells systemd's socket that it is ready. Every start
/// appends to one log; a daemon that still runs is left alone. What a scenario wants in its
/// environment, it puts into a file.
const START: &str = r#"
run=/run/$program; mkdir -p $run
[ -e $run/environment ] && . $run/environment
[ -e $run/pid ] && kill -0 "$(cat $run/pid)" 2>/dev/null && exit 0
rm -f $run/notify; : > $run/said
install -m 755 /share/bin/$program /usr/local/bin/ || exit
# Without udev nobody makes the node that loads it.
[ $program != xen-netback ] || modprobe -a tun xen-gntalloc || exit
setsid socat -u UNIX-RECV:$run/notify OPEN:$run/said,append > /dev/null 2>&1 &
for _ in $(seq 50); do [ -S $run/notify ] && break; sleep 0.1; done
NOTIFY_SOCKET=$run/notify setsid $program serve >> $run/log 2>&1 &
echo $! > $run/pid
for _ in $(seq 200); do
	grep -q READY=1 $run/said && exit 0
	kill -0 "$(cat $run/pid)" 2>/dev/null || { echo "the daemon ended at once:"; tail -20 $run/log; exit 1; } >&2
	sleep 0.2
done
{ echo "the daemon does not get ready:"; tail -20 $run/log; } >&2
exit 1
"#;

/// Asks the daemon to end, then makes it.
const STOP: &str = r#"
run=/run/$program
[ -e $run/pid ] || exit 0
pid=$(cat $run/pid)
kill $pid 2>/dev/null
for _ in $(seq 50); do kill -0 $pid 2>/dev/null || break; sleep 0.2; done
pkill -KILL -x $program && { echo "the daemon or a worker did not end when asked to" >&2; left=1; }
pkill -x socat
rm -f $run/pid
exit ${left:-0}
"#;

/// Fails when the daemon died, panicked, or was not started.
const CHECK: &str = r#"
run=/run/$program
kill -0 "$(cat $run/pid)" || { echo "the daemon has died" >&2; exit 1; }
! grep -n -m5 -A3 "panicked at" $run/log >&2
"#;

/// What kind of devices a backend serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Devices {
    /// Virtual block devices.
    Disks,
    /// Virtual network interfaces.
    Nics,
}

impl Devices {
    /// The name of the program that serves them, and of the kernel's module as well.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Disks => "xen-blkback",
            Self::Nics => "xen-netback",
        }
    }
}

/// A backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Backend {
    /// The daemon that the host copied to `/share/bin`.
    Daemon,
    /// The kernel's module.
    Kernel,
}

impl Backend {
    /// Gets it ready to serve `devices`.
    ///
    /// # Errors
    ///
    /// It does not start; the error has the end of its log.
    pub fn start(self, dom0: &mut Dom0, devices: Devices) -> anyhow::Result<()> {
        let script = match self {
            Self::Daemon => START,
            Self::Kernel => "modprobe $program",
        };
        run(dom0, devices, script).context("cannot start the backend")
    }

    /// Ends it, so that the other one can take over.
    ///
    /// # Errors
    ///
    /// It does not end by itself.
    pub fn stop(self, dom0: &mut Dom0, devices: Devices) -> anyhow::Result<()> {
        let script = match self {
            Self::Daemon => STOP,
            Self::Kernel => "[ ! -e /sys/module/${program/-/_} ] || modprobe -r $program",
        };
        run(dom0, devices, script).context("cannot stop the backend")
    }

    /// Checks that it is still whole.
    ///
    /// # Errors
    ///
    /// The daemon died or panicked.
    pub fn check(self, dom0: &mut Dom0, devices: Devices) -> anyhow::Result<()> {
        match self {
            Self::Daemon => run(dom0, devices, CHECK),
            Self::Kernel => Ok(()),
        }
    }
}

fn run(dom0: &mut Dom0, devices: Devices, script: &str) -> anyhow::Result<()> {
    let script = format!("program={}\n{script}", devices.program());
    dom0.run(&script, LIMIT)?.success()?;
    Ok(())
}
