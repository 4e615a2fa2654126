//! A simulated xenstored with its domains, for one test.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pv_tests::sim::xenstored::{Control, Server, socket};
use ring_proto::DomId;
use xenbus::{BackendPath, Class, Endpoint, Permissions, State, Store};

/// How long anything may take that should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Domain 0.
pub(crate) const DOM0: DomId = DomId::new(0);

/// The disk that the tests are about.
pub(crate) const DISK: BackendPath = BackendPath {
    backend: DOM0,
    class: Class::Vbd,
    frontend: DomId::new(7),
    devid: 51_712,
};

/// A running store and a connection that gives orders. Ends with the test.
pub(crate) struct Machine {
    pub(crate) control: Control,
    _server: Server,
    dir: TempDir,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new();
        let server = Server::start(dir.path()).unwrap();
        let control = server.control().unwrap();
        Self {
            control,
            _server: server,
            dir,
        }
    }

    /// A connection of domain 0.
    pub(crate) fn dom0(&self) -> Store {
        Store::connect(Endpoint::Socket(socket(self.dir.path()))).unwrap()
    }

    /// A connection of a guest with the nodes that a toolstack gives it, and one disk.
    pub(crate) fn guest_with_disk(&mut self, disk: &BackendPath) -> Store {
        attach(&mut self.dom0(), disk);
        Store::connect(self.control.introduce(disk.frontend).unwrap()).unwrap()
    }

    /// Fails the test if anybody broke a rule.
    pub(crate) fn assert_no_violations(&mut self) {
        assert_eq!(self.control.violations().unwrap(), Vec::<String>::new());
    }
}

/// Writes a disk's nodes as libxl does: directories with their permissions and all keys at once.
pub(crate) fn attach(store: &mut Store, disk: &BackendPath) {
    let back = Permissions::private(DOM0).readable_by(disk.frontend);
    let front = Permissions::private(disk.frontend).readable_by(DOM0);
    let (back_dir, front_dir) = (disk.to_string(), disk.frontend_path());
    let keys = [
        (disk.key("frontend"), front_dir.clone()),
        (disk.key("frontend-id"), disk.frontend.to_string()),
        (disk.key("online"), "1".to_owned()),
        (disk.key("script"), "block".to_owned()),
        (disk.key("state"), State::Initialising.value()),
        (disk.frontend_key("backend"), back_dir.clone()),
        (disk.frontend_key("state"), State::Initialising.value()),
    ];
    let made = store.transaction(|tx| {
        for (dir, permissions) in [(&back_dir, &back), (&front_dir, &front)] {
            tx.mkdir(dir)?;
            tx.set_permissions(dir, permissions)?;
        }
        keys.iter()
            .try_for_each(|(path, value)| tx.write(path, value))
    });
    assert_eq!(made, Ok(()));
}

/// A new directory, removed at the end.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let (pid, nth) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("xenbus-{pid}-{nth}"));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // What is left in /tmp harms nobody.
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}
