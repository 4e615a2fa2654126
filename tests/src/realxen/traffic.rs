//! Traffic between two hosts, each byte of which is accounted for.
//!
//! A [`Host`] that is opened as a [`Station`] serves four ports: what arrives at 7001 is summed up,
//! what leaves 7002 is a file of noise, datagrams come back from 7003, and 7004 tells callers the
//! address under which they are seen.

use std::fmt::{self, Display, Write as _};
use std::time::Duration;

use anyhow::Context;

use super::dom0::{Dom0, Output};
use super::guest::Guest;
use super::nic::{Link, Nic};

/// The noise that [`Step::Send`] and [`Step::Fetch`] move, in MiB.
pub const NOISE_MIB: u64 = 8;

/// How long a script or one step may take.
const LIMIT: Duration = Duration::from_secs(90);

/// A place with a network of its own.
#[derive(Clone, Debug)]
pub enum Host {
    /// dom0 itself.
    Dom0,
    /// A network namespace in dom0.
    Namespace(&'static str),
    /// A guest without disks.
    Guest(Guest),
}

/// A host whose services run.
#[derive(Clone, Debug)]
pub struct Station {
    host: Host,
    /// The checksum of its noise.
    noise: String,
}

/// Part of what one station does with another, whose address `ip` is.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// Three pings of the usual size, which may not be cut up, and three of several fragments.
    Ping(&'a str),
    /// Three pings of that many bytes of IP, which may not be cut up.
    PingUncut(&'a str, u32),
    /// Sends all noise over that many TCP connections each.
    Send(&'a str, u32),
    /// Gets the other's over that many TCP connections each.
    Fetch(&'a str, u32),
    /// Sends datagrams of 1 to 60,000 bytes, one after the other, which come back. The larger ones
    /// travel in fragments.
    Echo(&'a str),
}

impl Host {
    /// Runs a shell script there.
    ///
    /// # Errors
    ///
    /// dom0 has gone. A failed script is no error.
    pub fn run(&self, dom0: &mut Dom0, script: &str, limit: Duration) -> anyhow::Result<Output> {
        match self {
            Self::Dom0 => dom0.run(script, limit),
            Self::Namespace(name) => dom0.run(
                &format!("ip netns exec {name} bash <<'END-OF-SCRIPT'\n{script}\nEND-OF-SCRIPT\n"),
                limit,
            ),
            Self::Guest(guest) => guest.run(dom0, script, limit),
        }
    }

    /// Runs a shell script there that must succeed.
    ///
    /// # Errors
    ///
    /// dom0 or the guest has gone, or the script failed.
    pub fn sh(&self, dom0: &mut Dom0, script: &str) -> anyhow::Result<String> {
        let output = self.run(dom0, script, LIMIT)?.success();
        output.with_context(|| format!("in {self}: {}", script.trim()))
    }
}

impl Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dom0 => f.write_str("dom0"),
            Self::Namespace(name) => write!(f, "namespace {name}"),
            Self::Guest(guest) => write!(f, "guest {}", guest.name()),
        }
    }
}

impl Station {
    /// Starts the services there, unless they run.
    ///
    /// # Errors
    ///
    /// dom0 or the guest has gone, or a service does not start.
    pub fn open(dom0: &mut Dom0, host: Host) -> anyhow::Result<Self> {
        let noise = host.run(dom0, SERVE, LIMIT)?.success();
        let noise = noise.with_context(|| format!("cannot start services in {host}"))?;
        Ok(Self {
            host,
            noise: noise.trim().to_owned(),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Has it take those steps with the station `peer`, in that order.
    ///
    /// # Errors
    ///
    /// dom0 or a guest has gone, no connection is made, a ping or a datagram is lost, or a byte of
    /// what arrived differs from what was sent.
    pub fn talk(&self, dom0: &mut Dom0, peer: &Self, steps: &[Step<'_>]) -> anyhow::Result<()> {
        let mut script = ". /run/traffic/steps\n".to_owned();
        for step in steps {
            let (own, others) = (&self.noise, &peer.noise);
            match step {
                Step::Ping(ip) => writeln!(script, "ping3 do 56 {ip}; ping3 dont 8000 {ip}"),
                Step::PingUncut(ip, size) => writeln!(script, "ping3 do {} {ip}", size - 28),
                Step::Send(ip, streams) => {
                    writeln!(script, "send {} {streams} {own}", bracketed(ip))
                }
                Step::Fetch(ip, streams) => {
                    writeln!(script, "fetch {} {streams} {others}", bracketed(ip))
                }
                Step::Echo(ip) => writeln!(script, "echoes {}", bracketed(ip)),
            }?;
        }
        let limit = LIMIT * u32::try_from(steps.len())?;
        let talked = self.host.run(dom0, &script, limit)?.success();
        talked.with_context(|| format!("traffic between {} and {}", self.host, peer.host))?;
        Ok(())
    }
}

impl Step<'_> {
    /// Everything that two stations can do with each other by one address of the other's.
    #[must_use]
    pub fn all(ip: &str) -> [Step<'_>; 4] {
        [
            Step::Ping(ip),
            Step::Send(ip, 1),
            Step::Fetch(ip, 1),
            Step::Echo(ip),
        ]
    }
}

/// Gets an interface of a guest's ready, as [`Nic::raise`] does, and the guest as a station.
///
/// # Errors
///
/// As [`Nic::raise`] and [`Station::open`].
pub fn join(
    dom0: &mut Dom0,
    guest: &Guest,
    nic: &Nic,
    addresses: &[&str],
) -> anyhow::Result<(Link, Station)> {
    let host = Host::Guest(guest.clone());
    // One job in the guest instead of two: each takes a second or more in the emulator.
    let script = nic.inside(addresses) + SERVE;
    let printed = host.sh(dom0, &script)?;
    let (inside, noise) = printed
        .trim()
        .split_once('\n')
        .with_context(|| format!("{host} printed {printed:?}, not an interface and a checksum"))?;
    let link = nic.outside(dom0, guest, inside)?;
    let noise = noise.to_owned();
    Ok((link, Station { host, noise }))
}

/// As socat wants it: brackets mean version 6.
fn bracketed(ip: &str) -> String {
    if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    }
}

/// Makes the noise, starts what is not running (port 7003 is 1B5B), and prints the checksum.
const SERVE: &str = r#"
dir=/run/traffic; mkdir -p $dir
[ -s $dir/sum ] || {
	dd if=/dev/urandom of=$dir/noise bs=1M count=8 2> /dev/null
	md5sum < $dir/noise | cut -c1-32 > $dir/sum
}
cat $dir/sum
serving() { grep -q ':1B5B ' /proc/self/net/udp6; }
serving && exit
cat > $dir/steps <<'END'
cd /run/traffic
fail() { echo "$*"; exit 1; }
ping3() {
	ping -c 3 -i 0.2 -W 5 -M $1 -s $2 $3 > pings
	grep -q ' 3 received' pings && ! grep -q 'wrong data' pings || fail "$(cat pings)"
}
streams() {
	for n in $(seq $1); do eval "$3" > sum$n & done
	wait
	for n in $(seq $1); do
		[ "$(cut -c1-32 sum$n)" = $2 ] || fail "$3: noise $2, stream $n of $1: $(cat sum$n)"
	done
}
send() { streams $2 $3 "timeout 80 socat -t 60 -b 262144 STDIO TCP:$1:7001 < noise"; }
fetch() { streams $2 $3 "timeout 80 socat -u -b 262144 TCP:$1:7002 STDIO | md5sum"; }
echoes() {
	rm -f echoed
	timeout 80 socat UDP:$1:7003 "EXEC:sh /run/traffic/echo,nofork"
	[ -e echoed ] || fail "UDP with $1"
}
END
# The inner script's standard input and output are a connected socket.
cat > $dir/echo <<'END'
cd /run/traffic
for size in 1 64 1472 1473 9000 60000; do
	dd if=noise of=sent bs=$size count=1 2> /dev/null
	dd if=sent bs=$size count=1 2> /dev/null
	timeout 10 dd of=back bs=65536 count=1 2> /dev/null
	cmp sent back >&2 || { echo "of $size bytes, $(wc -c < back) came back, right or wrong" >&2; exit 1; }
done
echo all > echoed
END
serve() { setsid socat -b 65536 "$@" < /dev/null >> $dir/log 2>&1 & }
serve TCP6-LISTEN:7001,ipv6only=0,reuseaddr,fork EXEC:md5sum,nofork
serve TCP6-LISTEN:7002,ipv6only=0,reuseaddr,fork "EXEC:cat $dir/noise,nofork"
serve -U TCP4-LISTEN:7004,reuseaddr,fork 'SYSTEM:echo $SOCAT_PEERADDR'
setsid iperf3 -s < /dev/null > /dev/null 2>&1 &
serve UDP6-RECVFROM:7003,ipv6only=0,reuseaddr,fork PIPE
for _ in $(seq 100); do serving && exit; sleep 0.1; done
cat $dir/log >&2; exit 1
"#;
