//! One emulated computer running Xen.

use std::fs::{self, File};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::command;
use super::image::Image;

/// The CPU on which a PV dom0 and both kinds of guests run. Newer models make a PV dom0 hang on
/// QEMU 7.2, and with RDTSCP a PVH guest dies of an instruction that Xen cannot emulate.
const CPU: &str = "Opteron_G3,+svm,+npt,-rdtscp";

/// How long QEMU may take to connect to the agent's socket.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Lines of the console that an error carries.
const CONSOLE_LINES: usize = 25;

/// What the machine's clock counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Clock {
    /// The host's time, on two virtual CPUs: as fast as it goes.
    Wall,
    /// Executed instructions, 2 ns each, on one virtual CPU: speeds measured inside do not depend
    /// on what else the host does.
    Instructions,
}

/// Where dom0's and Xen's console goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Console {
    /// Into a file.
    Log,
    /// To the caller's terminal, with a shell on it, and into the file as well.
    Terminal,
}

/// A running emulator, ended when this is dropped or its starting thread dies.
#[derive(Debug)]
pub(super) struct Machine {
    qemu: Child,
    console: PathBuf,
    complaints: PathBuf,
}

impl Machine {
    /// Starts a machine from `image` with the folder `share`, and returns the line to its agent
    /// as well. dom0 has not booted by then.
    pub(super) fn start(
        image: &Image,
        share: &Path,
        console: PathBuf,
        clock: Clock,
        mode: Console,
    ) -> anyhow::Result<(Self, UnixStream)> {
        // Not below the results, whose path may be longer than a socket's address.
        let socket = std::env::temp_dir().join(format!("realxen-{}.sock", std::process::id()));
        let _stale = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket)
            .with_context(|| format!("cannot listen on {}", socket.display()))?;
        let complaints = console.with_extension("qemu");
        let stderr = File::create(&complaints)
            .with_context(|| format!("cannot create {}", complaints.display()))?;
        let qemu = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"])
            .args(hardware(clock))
            .args(boot(image, clock, mode))
            .args(devices(image, share, &socket))
            .args(console_arguments(&console, mode))
            .stdin(match mode {
                Console::Log => Stdio::null(),
                Console::Terminal => Stdio::inherit(),
            })
            .stderr(stderr)
            .spawn()
            .context("cannot run qemu-system-x86_64")?;
        let mut machine = Self {
            qemu,
            console,
            complaints,
        };
        let line = machine.accept(&listener);
        fs::remove_file(&socket).with_context(|| format!("cannot remove {}", socket.display()))?;
        Ok((machine, line?))
    }

    /// The last lines of the console.
    pub(super) fn last_words(&self) -> String {
        let log = fs::read(&self.console).unwrap_or_default();
        command::tail(&String::from_utf8_lossy(&log), CONSOLE_LINES)
    }

    /// Waits until the machine ends by itself.
    pub(super) fn wait(&mut self) -> anyhow::Result<()> {
        self.qemu.wait().context("cannot wait for QEMU")?;
        Ok(())
    }

    fn accept(&mut self, listener: &UnixListener) -> anyhow::Result<UnixStream> {
        let pidfd = pidfd_open(Pid::from_child(&self.qemu), PidfdFlags::empty())
            .context("cannot watch QEMU")?;
        let limit = Timespec::try_from(START_LIMIT).context("the limit is no time")?;
        let mut fds = [
            PollFd::new(listener, PollFlags::IN),
            PollFd::new(&pidfd, PollFlags::IN),
        ];
        poll(&mut fds, Some(&limit)).context("cannot wait for QEMU")?;
        if fds[0].revents().contains(PollFlags::IN) {
            let (line, _) = listener.accept().context("cannot accept QEMU's call")?;
            Ok(line)
        } else if fds[1].revents().is_empty() {
            bail!("QEMU did not start within {START_LIMIT:?}")
        } else {
            let status = self.qemu.wait().context("cannot wait for QEMU")?;
            let said = fs::read_to_string(&self.complaints).unwrap_or_default();
            bail!("QEMU ended at once with {status}:\n{said}")
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only when QEMU has ended already, which is what they are for.
        let _killed = self.qemu.kill();
        let _reaped = self.qemu.wait();
    }
}

fn hardware(clock: Clock) -> Vec<&'static str> {
    let mut arguments = vec!["-M", "q35", "-m", "6G", "-cpu", CPU];
    arguments.extend(match clock {
        Clock::Wall => ["-smp", "2", "-accel", "tcg,thread=multi"].as_slice(),
        Clock::Instructions => &[
            "-smp",
            "1",
            "-accel",
            "tcg,thread=single",
            "-icount",
            "shift=1,sleep=off",
        ],
    });
    arguments
}

fn boot(image: &Image, clock: Clock, mode: Console) -> Vec<String> {
    let cpus = match clock {
        Clock::Wall => 2,
        Clock::Instructions => 1,
    };
    let shell = match mode {
        Console::Log => "",
        Console::Terminal => " realxen.shell",
    };
    vec![
        "-kernel".into(),
        image.hypervisor().display().to_string(),
        "-append".into(),
        format!(
            "dom0_mem=2G,max:2G dom0_max_vcpus={cpus} console=com1 com1=115200,8n1 sched=credit \
             conring_size=1m"
        ),
        "-initrd".into(),
        format!(
            "{} console=hvc0 quiet panic=1{shell},{}",
            image.kernel().display(),
            image.initrd().display()
        ),
        "-no-reboot".into(),
    ]
}

fn devices(image: &Image, share: &Path, agent: &Path) -> Vec<String> {
    [
        "-nodefaults",
        "-display",
        "none",
        "-drive",
        &format!(
            "if=virtio,format=raw,snapshot=on,file={}",
            image.root_disk().display()
        ),
        "-virtfs",
        &format!(
            "local,path={},mount_tag=share,security_model=none,multidevs=remap",
            share.display()
        ),
        "-device",
        "virtio-serial-pci",
        "-chardev",
        &format!("socket,id=agent,path={}", agent.display()),
        "-device",
        "virtserialport,chardev=agent,name=agent",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn console_arguments(log: &Path, mode: Console) -> Vec<String> {
    let log = log.display();
    let chardev = match mode {
        Console::Log => format!("file,id=console,path={log}"),
        Console::Terminal => format!("stdio,id=console,signal=off,logfile={log}"),
    };
    vec![
        "-chardev".into(),
        chardev,
        "-serial".into(),
        "chardev:console".into(),
    ]
}
