//! The real daemon, governed by configuration files, with a guest that sends what it likes.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pv_tests::frontend::netfront::frame::Cut;
use pv_tests::frontend::netfront::{NetShape, Packet, Wire};
use pv_tests::scene::{Guest, Scene};
use pv_tests::spoof::{Expect, Site, datagram};
use pv_tests::toolstack::NicLine;

use super::frames;

pub(super) const TENANT: &str = "
[[policy]]
name = \"tenant\"
match = { domid = 1 }
profile = \"locked\"
ipv4 = \"192.0.2.7\"
ipv6 = \"2001:db8::7\"
";

pub(super) struct Stage {
    pub(super) scene: Scene,
    guest: Guest,
    nic: NicLine,
    wire: Wire,
}

impl Stage {
    pub(super) fn set(policy: &str) -> anyhow::Result<Self> {
        let mut scene = Scene::networked(policy)?;
        let guest = scene.guest()?;
        let nic = NicLine::new(0, Site::example().own.mac);
        let wire = scene.wire(&guest, &nic, NetShape::LINUX)?;
        Ok(Self {
            scene,
            guest,
            nic,
            wire,
        })
    }

    pub(super) fn interface(&self) -> String {
        self.nic.interface(self.guest.domid())
    }

    /// Sends a frame; whether it came out at the other end, as it was.
    pub(super) fn passes(&mut self, frame: &[u8]) -> anyhow::Result<bool> {
        let packet = Packet {
            bytes: frame,
            cuts: &Cut::pages(frame.len()),
            flags: 0,
            extras: &[],
        };
        let status = self.wire.answer(0, &packet)?;
        // It is answered when it has been written, and what is written is there.
        let seen = self.wire.peer.take()?;
        match (status, seen) {
            (0, Some(seen)) => {
                ensure!(seen.bytes == frame, "another frame came out");
                Ok(true)
            }
            (-1 | -2, None) => Ok(false),
            (status, seen) => anyhow::bail!("status {status}, and {seen:?} came out"),
        }
    }

    /// The worker hears of a change in a moment.
    fn soon_passes(&mut self, frame: &[u8], passes: bool) -> anyhow::Result<bool> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.passes(frame)? != passes {
            if Instant::now() > deadline {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn clear(mut self) -> anyhow::Result<()> {
        self.wire.front.close()?;
        self.scene.detach_nic(&self.guest, &self.nic)?;
        self.scene.destroy(&self.guest)?;
        self.scene.no_wrong_done()
    }
}

/// NET-15 to NET-19, by the file that an administrator writes and the ring that a guest has.
#[test]
fn net_15_to_19_a_guest_gets_no_spoofed_frame_out() -> anyhow::Result<()> {
    let mut stage = Stage::set(TENANT)?;
    let (_, frames) = frames();
    let reload = |stage: &Stage| stage.scene.daemon()?.command(&["policy", "reload"]);
    let mut wrong = Vec::new();
    for (number, spoof) in frames.iter().enumerate() {
        // A policy that has changed starts with full buckets.
        if number % 5 == 0 {
            let config = format!("{TENANT}storm = {}\n", 200 + number / 5);
            fs::write(stage.scene.daemon()?.config_file(), config)?;
            reload(&stage)?;
        }
        let passes = stage.passes(&spoof.frame);
        let passes = passes.with_context(|| format!("{}\n{}", spoof.name, stage.scene.told()))?;
        if passes != (spoof.expect == Expect::Pass) {
            wrong.push(format!("{}: passes: {passes}", spoof.name));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    stage.clear()
}

#[test]
fn a_policy_is_shown_tried_and_exchanged_while_its_interface_is_served() -> anyhow::Result<()> {
    let mut stage = Stage::set(TENANT)?;
    let (site, frames) = frames();
    let vif = stage.interface();
    let daemon = |stage: &Stage, arguments: &[&str]| stage.scene.daemon()?.command(arguments);
    let shown = daemon(&stage, &["policy", "show", &vif])?;
    ensure!(
        shown.contains("domid") && shown.contains("ipv4 = [\"192.0.2.7\"]"),
        "{shown}"
    );
    let foreign = format!("{}:1,192.0.2.9:2", site.neighbour.v4);
    let own = format!("{}:1,192.0.2.9:2", site.own.v4);
    let test = |stage: &Stage, ends: &str| daemon(stage, &["policy", "test", &vif, "--udp", ends]);
    assert_eq!(test(&stage, &foreign)?.trim(), "dropped: ip");
    ensure!(test(&stage, &own)?.starts_with("passes"));

    let spoofed = frames
        .iter()
        .find(|spoof| spoof.expect == Expect::Drop("mac"));
    let spoofed = &spoofed.context("no frame has another's MAC")?.frame;
    ensure!(!stage.passes(spoofed)?, "it is locked");
    let config = stage.scene.daemon()?.config_file().to_path_buf();
    fs::write(&config, "")?;
    let told = daemon(&stage, &["policy", "reload"])?;
    ensure!(told.starts_with("0 policies"), "{told}");
    ensure!(
        stage.soon_passes(spoofed, true)?,
        "nothing governs it any more"
    );
    fs::write(&config, "[[policy]]\nname = \"x\"\nmac-gard = true\n")?;
    let refused = daemon(&stage, &["policy", "reload"])
        .unwrap_err()
        .to_string();
    ensure!(
        refused.contains(":3:1: ") && refused.contains("mac-guard"),
        "{refused}"
    );
    ensure!(stage.passes(spoofed)?, "a bad file changes nothing");
    fs::write(&config, TENANT)?;
    daemon(&stage, &["policy", "reload"])?;
    ensure!(stage.soon_passes(spoofed, false)?, "it is locked again");
    let missing = daemon(&stage, &["policy", "show", "vif99.0"]).unwrap_err();
    ensure!(
        missing.to_string().contains("no interface \"vif99.0\""),
        "{missing}"
    );
    stage.clear()
}

/// As many rules as do not fit into a datagram, when it connects and when they change.
#[test]
fn of_a_thousand_rules_the_last_decides() -> anyhow::Result<()> {
    let rules = |last: u16| {
        let rule = |port| {
            format!(
                "[[policy.rule]]\ndirection = \"out\"\nprotocol = \"udp\"\nports = {port}\n\
                 action = \"drop\"\n"
            )
        };
        let rules: String = (1000..1999).chain([last]).map(rule).collect();
        format!("{TENANT}stateful = false\n{rules}")
    };
    let mut stage = Stage::set(&rules(4000))?;
    let site = Site::example();
    let udp = |port| datagram(&site, port);
    ensure!(!stage.passes(&udp(4000))?, "rule 1000 drops it");
    ensure!(!stage.passes(&udp(1500))?, "rule 501 drops it");
    ensure!(stage.passes(&udp(4001))?, "no rule is against it");
    fs::write(stage.scene.daemon()?.config_file(), rules(4001))?;
    stage.scene.daemon()?.command(&["policy", "reload"])?;
    ensure!(
        stage.soon_passes(&udp(4001), false)?,
        "rule 1000 drops it now"
    );
    ensure!(stage.passes(&udp(4000))?, "no rule is against it any more");
    stage.clear()
}

/// NET-24, as far as the simulated machine has it: rules come before the guest, and go after it.
#[test]
fn net_24_rules_are_there_as_long_as_the_interface_and_no_longer() -> anyhow::Result<()> {
    let mut stage = Stage::set(TENANT)?;
    let network = stage.scene.network()?.clone();
    let installed = || network.inside(|| netback::enforce::Kernel.installed());
    let names: Vec<_> = installed()??;
    let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
    assert_eq!(names, [stage.interface()]);
    stage.wire.front.close()?;
    stage.scene.detach_nic(&stage.guest, &stage.nic)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !installed()??.is_empty() {
        ensure!(Instant::now() < deadline, "{:?} are left", installed()??);
    }
    stage.scene.destroy(&stage.guest)?;
    stage.scene.no_wrong_done()
}
