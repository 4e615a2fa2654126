//! A host: its network, its `/run`, its xenstore.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../systemd/hotplug/vif-xen-backends"
);

/// A host, which goes with this value.
pub(crate) struct Host {
    dir: PathBuf,
    /// Keeps the namespaces.
    holder: Child,
}

/// One of its guests' interfaces.
#[derive(Clone, Copy)]
pub(crate) struct Vif(pub(crate) u16);

impl Vif {
    /// As libxl names it.
    pub(crate) fn name(self) -> String {
        format!("vif{}.0", self.0)
    }

    pub(crate) fn node(self) -> String {
        format!("backend/vif/{}/0", self.0)
    }
}

impl Host {
    pub(crate) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vif-script-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("bin")).unwrap();
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c"])
            .arg(
                "mount -t sysfs sysfs /sys && mount -t tmpfs run /run && \
                 mkdir -p /run/xen-backends/vif && ip link set lo up && echo ready && exec cat",
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut told = BufReader::new(holder.stdout.take().unwrap());
        told.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "needs root");
        let host = Self { dir, holder };
        let nodes = host.dir.join("nodes");
        let nodes = nodes.display();
        host.tool(
            "xenstore-read",
            &format!("exec cat '{nodes}'/\"$1\" 2>/dev/null"),
        );
        host.tool(
            "xenstore-write",
            &format!(
                "while [ $# -gt 0 ]; do mkdir -p '{nodes}'/\"${{1%/*}}\"; \
                 printf %s \"$2\" >'{nodes}'/\"$1\"; shift 2; done"
            ),
        );
        let log = host.dir.join("log");
        host.tool("logger", &format!("echo \"$*\" >>'{}'", log.display()));
        host
    }

    /// Puts a program in front of the system's.
    pub(crate) fn tool(&self, name: &str, body: &str) {
        let path = self.dir.join("bin").join(name);
        let made = self.dir.join("made");
        fs::write(&made, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&made, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(made, path).unwrap();
    }

    pub(crate) fn remove_tool(&self, name: &str) {
        fs::remove_file(self.dir.join("bin").join(name)).unwrap();
    }

    /// A file of the test's own.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.holder.id()))
            .args(["--net", "--mount", "--", program]);
        command
    }

    /// Runs lines of shell, all of which must succeed.
    pub(crate) fn sh(&self, lines: &str) -> String {
        let output = self.enter("sh").args(["-ec", lines]).output().unwrap();
        assert!(output.status.success(), "{lines}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `work` on a thread that is in the host's network.
    pub(crate) fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let network = File::open(format!("/proc/{}/ns/net", self.holder.id())).unwrap();
        thread::spawn(move || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        })
    }

    /// An interface as xen-netback makes it, with the keys that it and libxl write.
    pub(crate) fn vif(&self, vif: Vif, keys: &[(&str, &str)]) {
        let (name, Vif(domid)) = (vif.name(), vif);
        let tap = keys
            .iter()
            .find(|(key, _)| *key == "vifname")
            .map_or(name.as_str(), |(_, name)| name);
        self.tap(tap, domid);
        self.keys(vif, keys);
    }

    pub(crate) fn tap(&self, name: &str, domid: u16) {
        self.sh(&format!(
            "ip tuntap add {name} mode tap\n\
             ip link set {name} address fe:ff:ff:ff:ff:ff alias xen-netback:{domid}.0"
        ));
    }

    /// What xenstore says of an interface, instead of what it said.
    pub(crate) fn keys(&self, vif: Vif, keys: &[(&str, &str)]) {
        let node = self.file("nodes").join(vif.node());
        let _ = fs::remove_dir_all(&node);
        let frontend = format!("/local/domain/{}/device/vif/0", vif.0);
        let always = [("state", "2"), ("frontend", frontend.as_str())];
        for (key, value) in always.iter().chain(keys) {
            self.write(&format!("{}/{key}", vif.node()), value);
        }
        self.write(&format!("{frontend}/mtu"), "1500");
    }

    pub(crate) fn write(&self, path: &str, value: &str) {
        let path = self.file("nodes").join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, value).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.file("nodes").join(path.trim_start_matches('/'))).ok()
    }

    pub(crate) fn key(&self, vif: Vif, key: &str) -> Option<String> {
        self.read(&format!("{}/{key}", vif.node()))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// The script, as libxl would run it.
    pub(crate) fn script(&self, vif: Vif, command: &str) -> Command {
        let path = std::env::var("PATH").unwrap();
        let mut script = self.enter(SCRIPT);
        let kind = match command {
            "add" | "remove" => "type_if=tap",
            _ => "type_if=vif",
        };
        script
            .args([command, kind])
            .env("PATH", format!("{}:{path}", self.file("bin").display()))
            .env("XENBUS_PATH", vif.node())
            .env("XENBUS_TYPE", "vif")
            .env("XENBUS_BASE_PATH", "backend")
            .env("netdev", "")
            .env("vif", vif.name())
            .env("INTERFACE", format!("{}-emu", vif.name()))
            // A kill that means all of it does not mean the test.
            .process_group(0);
        script
    }

    pub(crate) fn run(&self, vif: Vif, command: &str) -> Output {
        self.script(vif, command).output().unwrap()
    }

    /// Runs the script, which must succeed.
    pub(crate) fn must(&self, vif: Vif, command: &str) {
        let output = self.run(vif, command);
        assert!(output.status.success(), "{command}: {output:?}");
        if command == "online" {
            let status = self.key(vif, "hotplug-status");
            assert_eq!(status.as_deref(), Some("connected"));
            assert_eq!(self.key(vif, "hotplug-error"), None);
        }
    }

    /// Runs the script, which must fail; what `xl` shows.
    pub(crate) fn refused(&self, vif: Vif, command: &str) -> String {
        let output = self.run(vif, command);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let status = self.key(vif, "hotplug-status");
        assert_eq!(status.as_deref(), Some("error"), "{output:?}");
        let said = self.key(vif, "hotplug-error").unwrap();
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(&said),
            "{output:?}"
        );
        assert!(self.log().contains(&said));
        said
    }

    /// All that a script could have left.
    pub(crate) fn dump(&self) -> String {
        let mut dump = self.sh(DUMP);
        // What queue an interface has is only seen once it was up.
        for line in ["links", "addresses"].map(|of| self.links(of)) {
            writeln!(dump, "{line}").unwrap();
        }
        dump
    }

    /// Nothing differs from what it was.
    pub(crate) fn is_as(&self, before: &str) {
        let now = self.dump();
        let only = |one: &str, other: &str| {
            let lines = one
                .lines()
                .filter(|line| !other.lines().any(|o| o == *line));
            lines.map(|line| format!("\n  {line}")).collect::<String>()
        };
        let (gone, new) = (only(before, &now), only(&now, before));
        assert!(gone.is_empty() && new.is_empty(), "gone:{gone}\nnew:{new}");
        assert!(now == before, "it is in another order: {now}");
    }

    fn links(&self, of: &str) -> String {
        let object = if of == "links" { "link" } else { "address" };
        let shown = self.sh(&format!("ip -j {object}"));
        let mut shown: Vec<serde_json::Value> = serde_json::from_str(&shown).unwrap();
        for link in &mut shown {
            let link = link.as_object_mut().unwrap();
            link.remove("qdisc");
        }
        let lines = shown.iter().map(ToString::to_string);
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What `ip` says of an interface, as `pointer` has it.
    pub(crate) fn link(&self, name: &str, pointer: &str) -> serde_json::Value {
        let shown = self.sh(&format!("ip -j -d address show dev {name}"));
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        shown[0].pointer(pointer).cloned().unwrap_or_default()
    }

    /// One switch of the kernel.
    pub(crate) fn sysctl(&self, path: &str) -> String {
        self.sh(&format!("cat /proc/sys/net/{path}"))
            .trim()
            .to_owned()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Its standard input ends with it.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

const DUMP: &str = "
ip route show table all
ip -6 route show table all
ip rule; ip -6 rule
ip neigh show proxy
nft list ruleset
cd /proc/sys/net
grep -rs . ipv4/conf ipv6/conf ipv4/neigh ipv6/neigh ipv4/ip_forward | sort
find /run -type f -exec grep -H '' {} +
";
