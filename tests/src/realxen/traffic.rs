//! Traffic between two hosts, each byte of which is accounted for.
//!
//! A [`Host`] that is opened as a [`Station`] serves three ports: what arrives at the first is
//! summed up, what leaves the second is a file of noise, and datagrams come back from the third.

use std::fmt::{self, Display, Write as _};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::dom0::{Dom0, Output};
use super::guest::Guest;

/// The noise that [`Station::send`] and [`Station::fetch`] move, in MiB.
pub const NOISE_MIB: u64 = 16;

/// How long one exchange may take.
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

/// What is in a ping.
#[derive(Clone, Copy, Debug)]
pub struct Ping {
    /// Bytes behind the ICMP header.
    pub size: u32,
    /// Whether it may be cut up on its way.
    pub may_fragment: bool,
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

    /// Sends [`NOISE_MIB`] over `streams` TCP connections each to the station `to`, which has the
    /// address `ip`, and compares what arrived.
    ///
    /// # Errors
    ///
    /// dom0 or a guest has gone, a connection fails, or a byte differs.
    pub fn send(
        &self,
        dom0: &mut Dom0,
        to: &Self,
        ip: &str,
        streams: u32,
    ) -> anyhow::Result<()> {
        let one = format!(
            "timeout 80 socat -t 60 -b 262144 STDIO TCP:[{ip}]:7001 < /run/traffic/noise"
        );
        self.compare(dom0, &one, streams, &self.noise)
            .with_context(|| format!("TCP from {} to {} ({ip})", self.host, to.host))
    }

    /// The same in the other direction.
    ///
    /// # Errors
    ///
    /// As [`Station::send`].
    pub fn fetch(
        &self,
        dom0: &mut Dom0,
        from: &Self,
        ip: &str,
        streams: u32,
    ) -> anyhow::Result<()> {
        let one = format!("timeout 80 socat -u -b 262144 TCP:[{ip}]:7002 STDIO | md5sum");
        self.compare(dom0, &one, streams, &from.noise)
            .with_context(|| format!("TCP from {} ({ip}) to {}", from.host, self.host))
    }

    /// Runs `one` side by side with itself, and compares the checksums that are printed.
    fn compare(
        &self,
        dom0: &mut Dom0,
        one: &str,
        streams: u32,
        noise: &str,
    ) -> anyhow::Result<()> {
        let mut script = String::new();
        for _ in 0..streams {
            writeln!(script, "{{ {one}; }} &")?;
        }
        let printed = self.host.sh(dom0, &format!("{script}wait"))?;
        let sums: Vec<&str> = printed
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        ensure!(
            sums.len() == usize::try_from(streams)? && sums.iter().all(|sum| *sum == noise),
            "{NOISE_MIB} MiB with checksum {noise} were sent {streams} times; this arrived:\n\
             {printed}"
        );
        Ok(())
    }

    /// Sends datagrams of 1 to 60,000 bytes to the station with the address `ip`, one after the
    /// other, and compares what comes back. The larger ones travel in fragments.
    ///
    /// # Errors
    ///
    /// dom0 or the guest has gone, or a datagram is lost or changed.
    pub fn echo(&self, dom0: &mut Dom0, ip: &str) -> anyhow::Result<()> {
        let script = format!("ip={ip}\n{ECHO}");
        let echoed = self.host.run(dom0, &script, LIMIT)?.success();
        echoed.with_context(|| format!("UDP from {} to {ip} and back", self.host))?;
        Ok(())
    }

    /// Sends three pings to `ip`, all of which must be answered.
    ///
    /// # Errors
    ///
    /// dom0 or the guest has gone, or a ping got no answer or a wrong one.
    pub fn ping(&self, dom0: &mut Dom0, ip: &str, ping: Ping) -> anyhow::Result<()> {
        let Ping { size, may_fragment } = ping;
        let cut = if may_fragment { "dont" } else { "do" };
        let script = format!("ping -c 3 -i 0.2 -W 5 -M {cut} -s {size} {ip}");
        let printed = self.host.run(dom0, &script, LIMIT)?;
        ensure!(
            printed.status == 0
                && printed.stdout.contains(" 3 received")
                && !printed.stdout.contains("wrong data"),
            "ping of {size} bytes from {} to {ip}:\n{}",
            self.host,
            printed.last_words()
        );
        Ok(())
    }
}

impl Ping {
    /// The usual one.
    pub const SMALL: Self = Self {
        size: 56,
        may_fragment: false,
    };
    /// One of several fragments.
    pub const LARGE: Self = Self {
        size: 8000,
        may_fragment: true,
    };
}

/// Makes the noise, starts what is not running (port 7003 is 1B5B), and prints the checksum.
const SERVE: &str = r#"
dir=/run/traffic; mkdir -p $dir
[ -s $dir/sum ] || {
	dd if=/dev/urandom of=$dir/noise bs=1M count=16 2> /dev/null
	md5sum < $dir/noise | cut -c1-32 > $dir/sum
}
cat $dir/sum
serving() { grep -q ':1B5B ' /proc/self/net/udp6; }
serving && exit
serve() { setsid socat -b 65536 "$@" < /dev/null >> $dir/log 2>&1 & }
serve TCP6-LISTEN:7001,ipv6only=0,reuseaddr,fork EXEC:md5sum,nofork
serve TCP6-LISTEN:7002,ipv6only=0,reuseaddr,fork "EXEC:cat $dir/noise,nofork"
setsid iperf3 -s < /dev/null > /dev/null 2>&1 &
serve UDP6-RECVFROM:7003,ipv6only=0,reuseaddr,fork PIPE
for _ in $(seq 100); do serving && exit; sleep 0.1; done
cat $dir/log >&2; exit 1
"#;

/// The inner script's standard input and output are a connected socket.
const ECHO: &str = r#"
cat > /run/traffic/echo <<'END'
cd /run/traffic
for size in 1 64 1472 1473 9000 60000; do
	dd if=noise of=sent bs=$size count=1 2> /dev/null
	dd if=sent bs=$size count=1 2> /dev/null
	timeout 10 dd of=back bs=65536 count=1 2> /dev/null
	cmp sent back >&2 || { echo "of $size bytes, $(wc -c < back) came back right or wrong" >&2; exit 1; }
done
echo all > echoed
END
rm -f /run/traffic/echoed
timeout 80 socat UDP:[$ip]:7003 "EXEC:sh /run/traffic/echo,nofork"
[ -e /run/traffic/echoed ]
"#;
