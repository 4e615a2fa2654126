//! A guest: its configuration, its life, and scripts that run inside it.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::disk::Disk;
use super::dom0::{Dom0, Job, Output};
use super::emulator;
use super::nic::Nic;

/// How long `xl` may take for one command.
const XL_LIMIT: Duration = Duration::from_secs(120);

/// What [`Guest::start`] grants on top of a script's limit for the guest's boot.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// How often a PVH guest is created until it survives its boot in the emulator.
const PVH_BOOTS: u32 = 4;

/// How the hypervisor runs a guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Paravirtualised.
    Pv,
    /// In a hardware container with paravirtual devices.
    Pvh,
}

/// A guest whose root filesystem is on its disk `xvda`, or in RAM if it has no disk. There are
/// tools for disks on the one (`guest/build-guest.sh`), and for networks in the other.
#[derive(Clone, Debug)]
pub struct Guest {
    name: &'static str,
    kind: Kind,
    cpus: u32,
    disks: Vec<Disk>,
    nics: Vec<Nic>,
    root_mode: &'static str,
}

impl Guest {
    /// A guest that does not exist in Xen yet.
    #[must_use]
    pub fn new(name: &'static str, kind: Kind, disks: Vec<Disk>) -> Self {
        Self {
            name,
            kind,
            cpus: 1,
            disks,
            nics: Vec::new(),
            root_mode: "rw",
        }
    }

    /// A guest without disks that does not exist in Xen yet.
    #[must_use]
    pub fn diskless(name: &'static str, kind: Kind, nics: Vec<Nic>) -> Self {
        Self {
            nics,
            ..Self::new(name, kind, Vec::new())
        }
    }

    /// The same guest with that many virtual CPUs.
    #[must_use]
    pub fn with_cpus(self, cpus: u32) -> Self {
        Self { cpus, ..self }
    }

    /// Its name in `xl`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Creates it. It boots in the background.
    ///
    /// # Errors
    ///
    /// dom0 has gone, or `xl create` failed.
    pub fn create(&self, dom0: &mut Dom0) -> anyhow::Result<()> {
        for _ in 1..PVH_BOOTS {
            self.xl_create(dom0)?;
            if self.kind == Kind::Pv || !self.is_lost_by_emulator(dom0)? {
                return Ok(());
            }
            println!("     the emulator lost {}; again", self.name);
        }
        self.xl_create(dom0)
    }

    fn xl_create(&self, dom0: &mut Dom0) -> anyhow::Result<()> {
        self.try_create(dom0)?
            .success()
            .with_context(|| format!("xl create {}", self.name))?;
        Ok(())
    }

    /// Tries to create it.
    ///
    /// # Errors
    ///
    /// dom0 has gone. A refusal by `xl` is in the output.
    pub fn try_create(&self, dom0: &mut Dom0) -> anyhow::Result<Output> {
        let config = self.configuration(dom0)?;
        let name = self.name;
        dom0.run(
            &format!(
                "rm -f /var/log/xen/guest-{name}.log; cat > /run/{name}.cfg <<'END'\n{config}END\n\
                 xl create /run/{name}.cfg"
            ),
            XL_LIMIT,
        )
    }

    /// Runs a shell script inside, once the guest is up, and returns what it printed to either
    /// stream. The script has at most about 3,500 bytes.
    ///
    /// # Errors
    ///
    /// dom0 has gone. A failed script is no error: status 124 tells that it did not end in time,
    /// 125 that the guest has gone.
    pub fn run(&self, dom0: &mut Dom0, script: &str, limit: Duration) -> anyhow::Result<Output> {
        let job = self.start(dom0, script, limit)?;
        dom0.finish(job)
    }

    /// Runs a shell script inside that must succeed.
    ///
    /// # Errors
    ///
    /// dom0 or the guest has gone, or the script failed.
    pub fn sh(&self, dom0: &mut Dom0, script: &str, limit: Duration) -> anyhow::Result<String> {
        self.run(dom0, script, limit)?
            .success()
            .with_context(|| format!("in guest {}: {}", self.name, script.trim()))
    }

    /// Starts a shell script inside; its end is seen by [`Dom0::finish`].
    ///
    /// # Errors
    ///
    /// dom0 has gone, or the script is too long for xenstore.
    pub fn start(&self, dom0: &mut Dom0, script: &str, limit: Duration) -> anyhow::Result<Job> {
        ensure!(
            script.len() <= 3500,
            "the script has {} bytes",
            script.len()
        );
        let seconds = (limit + BOOT_LIMIT).as_secs();
        dom0.start(
            &format!(
                "bash /share/boot/guest-run.sh {} {seconds} <<'END-OF-SCRIPT'\n{script}\nEND-OF-SCRIPT\n",
                self.name
            ),
            limit + BOOT_LIMIT + Duration::from_secs(15),
        )
    }

    /// Gives it another disk while it runs.
    ///
    /// # Errors
    ///
    /// dom0 has gone, or `xl block-attach` failed.
    pub fn attach(&self, dom0: &mut Dom0, disk: &Disk) -> anyhow::Result<()> {
        let line = disk.line(dom0)?;
        self.xl(dom0, "block-attach", &format!("'{line}'"))
    }

    /// Takes a disk away.
    ///
    /// # Errors
    ///
    /// dom0 has gone, or `xl block-detach` failed.
    pub fn detach(&self, dom0: &mut Dom0, disk: &Disk) -> anyhow::Result<()> {
        self.xl(dom0, "block-detach", disk.device)
    }

    /// Gives it another network interface while it runs.
    ///
    /// # Errors
    ///
    /// dom0 has gone, or `xl network-attach` failed.
    pub fn plug(&self, dom0: &mut Dom0, nic: &Nic) -> anyhow::Result<()> {
        self.xl(dom0, "network-attach", &nic.line().replace(',', " "))
    }

    /// Takes a network interface away.
    ///
    /// # Errors
    ///
    /// dom0 has gone, or `xl network-detach` failed.
    pub fn unplug(&self, dom0: &mut Dom0, nic: &Nic) -> anyhow::Result<()> {
        self.xl(dom0, "network-detach", nic.mac)
    }

    /// Whether Xen has it.
    ///
    /// # Errors
    ///
    /// dom0 has gone.
    pub fn exists(&self, dom0: &mut Dom0) -> anyhow::Result<bool> {
        let domid = dom0.run(&format!("xl domid {}", self.name), XL_LIMIT)?;
        Ok(domid.status == 0)
    }

    /// Saves it to `file` in dom0, which ends it, and brings it back from there.
    ///
    /// # Errors
    ///
    /// dom0 has gone, or `xl save` or `xl restore` failed.
    pub fn save_and_restore(&self, dom0: &mut Dom0, file: &str) -> anyhow::Result<()> {
        self.xl(dom0, "save", file)?;
        self.xl_words(dom0, &format!("xl restore {file}"))?;
        // The guest told that it was up in another life, in xenstore's half of another domain.
        dom0.sh(&format!(
            "rm {file}; xenstore-write /local/domain/$(xl domid {})/data/up 1",
            self.name
        ))?;
        Ok(())
    }

    /// Shuts it down from inside and waits until it has gone.
    ///
    /// # Errors
    ///
    /// dom0 has gone, or the guest does not shut down.
    pub fn shutdown(&self, dom0: &mut Dom0) -> anyhow::Result<()> {
        self.xl_words(dom0, &format!("xl shutdown -w {}", self.name))
    }

    /// Pulls its plug.
    ///
    /// # Errors
    ///
    /// dom0 has gone, or `xl destroy` failed.
    pub fn destroy(&self, dom0: &mut Dom0) -> anyhow::Result<()> {
        self.xl_words(dom0, &format!("xl destroy {}", self.name))
    }

    /// Waits for the boot of a PVH guest, and tells whether the emulator ended it. Any other end
    /// is the guest's, and an error.
    fn is_lost_by_emulator(&self, dom0: &mut Dom0) -> anyhow::Result<bool> {
        let boot = self.run(dom0, "true", Duration::from_secs(1))?;
        if boot.status == 0 {
            return Ok(false);
        }
        let is_lost = emulator::has_lost_a_guest(dom0)?;
        if !is_lost {
            boot.success()
                .with_context(|| format!("guest {} does not boot", self.name))?;
        }
        Ok(is_lost)
    }

    fn xl(&self, dom0: &mut Dom0, verb: &str, rest: &str) -> anyhow::Result<()> {
        self.xl_words(dom0, &format!("xl {verb} {} {rest}", self.name))
    }

    fn xl_words(&self, dom0: &mut Dom0, words: &str) -> anyhow::Result<()> {
        dom0.run(words, XL_LIMIT)?
            .success()
            .with_context(|| words.to_owned())?;
        Ok(())
    }

    fn configuration(&self, dom0: &mut Dom0) -> anyhow::Result<String> {
        let kind = match self.kind {
            Kind::Pv => "pv",
            Kind::Pvh => "pvh",
        };
        let mut text = format!("name=\"{}\"\ntype=\"{kind}\"\n", self.name);
        text += "kernel=\"/realxen/vmlinux\"\n";
        writeln!(text, "memory=256\nvcpus={}", self.cpus)?;
        text += "on_crash=\"destroy\"\non_reboot=\"destroy\"\n";
        if self.disks.is_empty() {
            text += "ramdisk=\"/realxen/ram-guest\"\nextra=\"console=hvc0 quiet\"\n";
        } else {
            text += "ramdisk=\"/realxen/initrd.gz\"\n";
            writeln!(
                text,
                "extra=\"console=hvc0 quiet root=/dev/xvda rootmode={}\"",
                self.root_mode
            )?;
        }
        text += "disk=[\n";
        for disk in &self.disks {
            writeln!(text, "\"{}\",", disk.line(dom0)?)?;
        }
        text += "]\nvif=[\n";
        for nic in &self.nics {
            writeln!(text, "\"{}\",", nic.line())?;
        }
        text += "]\n";
        Ok(text)
    }
}
