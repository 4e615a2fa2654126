//! The hotplug script, run as libxl runs it, with a xenstore made of files.

#![expect(clippy::unwrap_used, reason = "a test may panic, in its fixtures too")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../systemd/hotplug/block-image"
);
const DEVICE: &str = "backend/vbd/7/51712";

#[test]
fn add_hands_the_image_on_and_may_be_repeated() {
    let store = Store::new("add");
    let image = store.file("guest disk.img", "");
    store.disk(&[("params", image.to_str().unwrap())]);
    for _ in 0..2 {
        let output = store.run(&["add"]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            store.value("physical-device-path").as_deref(),
            image.to_str()
        );
        assert_eq!(store.value("hotplug-status").as_deref(), Some("connected"));
        assert_eq!(store.value("hotplug-error"), None);
    }
    // One call, so that nobody sees one without the other.
    assert_eq!(
        fs::read_to_string(store.dir.join("writes"))
            .unwrap()
            .lines()
            .count(),
        2
    );
}

#[test]
fn add_refuses_what_is_no_image_and_says_so_to_libxl() {
    let store = Store::new("refuse");
    let image = store.file("a.img", "");
    let directory = store.dir.to_str().unwrap().to_owned();
    let image = image.to_str().unwrap();
    for (keys, expected) in [
        (
            vec![("params", "/nowhere/a.img")],
            "/nowhere/a.img does not exist",
        ),
        (
            vec![("params", directory.as_str())],
            "neither a regular file nor a block device",
        ),
        (
            vec![("params", "/dev/null")],
            "neither a regular file nor a block device",
        ),
        (vec![("params", "a.img")], "is no absolute path"),
        (vec![("params", "")], "has no image"),
        (vec![], "has no image"),
        (
            vec![("params", image), ("xen-backends-error", "image is in use")],
            "image is in use",
        ),
    ] {
        store.disk(&keys);
        let output = store.run(&["add"]);
        assert_eq!(output.status.code(), Some(1), "{keys:?}: {output:?}");
        let said = store.value("hotplug-error").unwrap_or_default();
        assert!(said.contains(expected), "{keys:?}: {said}");
        assert_eq!(store.value("hotplug-status").as_deref(), Some("error"));
        assert_eq!(store.value("physical-device-path"), None);
        let shown = String::from_utf8_lossy(&output.stderr);
        assert!(shown.contains(expected), "{shown}");
    }
}

#[test]
fn an_empty_error_of_the_daemon_is_none() {
    let store = Store::new("noerror");
    let image = store.file("a.img", "");
    store.disk(&[
        ("params", image.to_str().unwrap()),
        ("xen-backends-error", ""),
    ]);
    assert!(store.run(&["add"]).status.success());
}

#[test]
fn a_name_that_xenstore_shows_escaped_goes_back_as_it_came() {
    let store = Store::new("escaped");
    store.disk(&[("params", "/srv/h\\303\\274.img")]);
    assert!(store.run(&["add"]).status.success());
    let path = store.value("physical-device-path");
    assert_eq!(path.as_deref(), Some("/srv/h\\303\\274.img"));
}

#[test]
fn a_disk_that_is_gone_is_not_brought_back() {
    let store = Store::new("gone");
    let output = store.run(&["add"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!store.dir.join("nodes").exists(), "something was written");
}

#[test]
fn remove_changes_nothing_and_may_be_repeated() {
    let store = Store::new("remove");
    store.disk(&[("params", "/nowhere")]);
    for _ in 0..2 {
        assert!(store.run(&["remove"]).status.success());
    }
    assert!(!store.dir.join("writes").exists());
    let gone = Store::new("removegone");
    assert!(gone.run(&["remove"]).status.success());
}

#[test]
fn wrong_use_is_refused() {
    let store = Store::new("use");
    store.disk(&[("params", "/nowhere")]);
    for arguments in [&[][..], &["online"], &[""]] {
        assert_eq!(store.run(arguments).status.code(), Some(1), "{arguments:?}");
    }
    let output = Command::new(SCRIPT)
        .arg("add")
        .env_remove("XENBUS_PATH")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("XENBUS_PATH"));
}

#[test]
fn a_xenstore_that_does_not_answer_does_not_hang_the_toolstack() {
    let store = Store::new("hang");
    store.tool("xenstore-read", "while :; do sleep 60 || exit; done");
    let begun = Instant::now();
    let output = store.run(&["add"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "libxl waits 40 s"
    );
}

#[test]
fn a_xenstore_that_cannot_be_written_is_an_error() {
    let store = Store::new("readonly");
    let image = store.file("a.img", "");
    store.disk(&[("params", image.to_str().unwrap())]);
    store.tool("xenstore-write", "exit 1");
    let output = store.run(&["add"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be written"));
}

/// A xenstore of which each node is a file, and the two commands to reach it.
struct Store {
    dir: PathBuf,
}

impl Store {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("block-image-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("bin")).unwrap();
        let store = Self { dir };
        let nodes = store.dir.join("nodes");
        let nodes = nodes.display();
        store.tool(
            "xenstore-read",
            &format!("cat '{nodes}'/\"$1\" 2>/dev/null"),
        );
        let writes = store.dir.join("writes");
        let writes = writes.display();
        store.tool(
            "xenstore-write",
            &format!(
                "echo \"$*\" >>'{writes}'; while [ $# -gt 0 ]; do \
                 mkdir -p '{nodes}'/\"${{1%/*}}\"; printf %s \"$2\" >'{nodes}'/\"$1\"; \
                 shift 2; done"
            ),
        );
        store.tool("logger", "exit 0");
        store
    }

    fn tool(&self, name: &str, body: &str) {
        let path = self.dir.join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A disk as libxl has just made it.
    fn disk(&self, keys: &[(&str, &str)]) {
        let _ = fs::remove_dir_all(self.dir.join("nodes"));
        for (key, value) in [("state", "2")].iter().chain(keys) {
            let path = self.node(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        }
    }

    fn node(&self, key: &str) -> PathBuf {
        self.dir.join("nodes").join(DEVICE).join(key)
    }

    fn value(&self, key: &str) -> Option<String> {
        fs::read_to_string(self.node(key)).ok()
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let path = std::env::var("PATH").unwrap();
        Command::new(Path::new(SCRIPT))
            .args(arguments)
            .env("PATH", format!("{}:{path}", self.dir.join("bin").display()))
            .env("XENBUS_PATH", DEVICE)
            .env("XENBUS_TYPE", "vbd")
            .env("XENBUS_BASE_PATH", "backend")
            .output()
            .unwrap()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}
