//! A network that a test has for itself: nothing of it is seen outside, and it goes with its last
//! user.
//!
//! - here: a network namespace, and how to work and to start programs in it
//! - [`peer`]: who is at the other end of an interface

pub mod peer;
mod sys;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub use peer::{Peer, Seen, Undone};

/// A network namespace. It exists as long as a copy of this, an interface's owner or a process in it.
#[derive(Clone, Debug)]
pub struct Network(Arc<File>);

impl Network {
    /// A new one, with a loopback interface that is up. Interfaces have no IPv6 in it, and so say
    /// nothing by themselves, unless they are given an address.
    ///
    /// # Errors
    /// Only root may, or the kernel has no namespaces.
    pub fn new() -> anyhow::Result<Self> {
        let made = elsewhere(|| {
            sys::own_network()?;
            File::open("/proc/thread-self/ns/net")
        });
        let made = made.context("no network namespace can be made: try as root")?;
        let network = Self(Arc::new(made));
        network.ip("link set lo up")?;
        network.inside(|| {
            let ipv6 = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
            // A kernel without IPv6 is silent, too.
            let _switched_off = std::fs::write(ipv6, "1");
        })?;
        Ok(network)
    }

    /// Does something on a thread that lives in this network: sockets stay where they are opened.
    ///
    /// # Errors
    /// The thread cannot move.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        let worked = elsewhere(|| {
            self.enter()?;
            Ok(work())
        });
        worked.context("cannot enter the network namespace")
    }

    /// Starts a program that lives in this network and sees its interfaces in `/sys`, too.
    ///
    /// # Errors
    /// The network cannot be entered; the inner error is the program's.
    pub fn spawn(&self, command: &mut Command) -> anyhow::Result<io::Result<Child>> {
        let spawned = elsewhere(|| {
            self.enter()?;
            sys::own_mounts()?;
            let down = MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM;
            mount_change("/", down)?;
            mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None)?;
            Ok(command.spawn())
        });
        spawned.context("cannot enter the network namespace")
    }

    /// Runs `ip` with some arguments; what it prints.
    ///
    /// # Errors
    /// It is missing, or complains.
    pub fn ip(&self, arguments: &str) -> anyhow::Result<String> {
        let words = arguments.split_whitespace();
        let output = self.inside(|| Command::new("ip").args(words).output())?;
        let output = output.context("cannot run ip: apt-get install iproute2")?;
        ensure!(
            output.status.success(),
            "ip {arguments}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Is there an interface of that name?
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn has(&self, name: &str) -> anyhow::Result<bool> {
        let table = self.inside(|| std::fs::read_to_string("/proc/thread-self/net/dev"))??;
        let names = table.lines().filter_map(|line| line.split_once(':'));
        Ok(names.into_iter().any(|(found, _)| found.trim() == name))
    }

    fn enter(&self) -> io::Result<()> {
        let network = Some(LinkNameSpaceType::Network);
        Ok(move_into_link_name_space(self.0.as_fd(), network)?)
    }
}

/// On a thread of its own, which may change what it belongs to.
fn elsewhere<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let done = scope.spawn(work).join();
        done.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_do_not_see_each_other() {
        let (first, second) = (Network::new().unwrap(), Network::new().unwrap());
        first.ip("link add one type bridge").unwrap();
        assert!(first.has("one").unwrap() && !second.has("one").unwrap());
        assert!(second.has("lo").unwrap());
        let outside = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        assert!(!outside.contains("one:"), "{outside}");
        let complaint = second.ip("link set one up").unwrap_err().to_string();
        assert!(complaint.contains("one"), "{complaint}");
    }

    #[test]
    fn a_program_sees_the_interfaces_of_its_network_everywhere() {
        let network = Network::new().unwrap();
        network.ip("link add only-here type bridge").unwrap();
        let mut command = Command::new("ls");
        command
            .arg("/sys/class/net")
            .stdout(std::process::Stdio::piped());
        let child = network.spawn(&mut command).unwrap().unwrap();
        let listed = child.wait_with_output().unwrap().stdout;
        assert!(String::from_utf8_lossy(&listed).contains("only-here"));
        let outside = Command::new("ls").arg("/sys/class/net").output().unwrap();
        assert!(!String::from_utf8_lossy(&outside.stdout).contains("only-here"));
    }
}
