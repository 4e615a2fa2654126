//! What must be so before a daemon starts, and what to do when it is not.

use std::fs;
use std::path::{Path, PathBuf};

use xenbus::Class;

/// Why this host cannot be served. The text ends in the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unready {
    /// A device is missing.
    #[error(
        "{} is missing: load its module (modprobe {module}), or run this in a Xen dom0 or driver \
         domain",
        path.display()
    )]
    NoDevice {
        /// The device.
        path: PathBuf,
        /// The kernel module that makes it.
        module: &'static str,
    },
    /// The kernel's own backend would take the same devices.
    #[error(
        "the kernel's {module} is loaded and takes every {class} that appears: unload it \
         (modprobe -r {module}) and keep it out (echo 'blacklist {module}' \
         >/etc/modprobe.d/xen-backends.conf)"
    )]
    KernelBackend {
        /// What both serve.
        class: &'static str,
        /// The kernel module.
        module: &'static str,
    },
}

/// Checks the running host.
///
/// # Errors
/// The first thing that is in the way.
pub fn check(class: Class) -> Result<(), Unready> {
    check_below(Path::new("/"), class)
}

/// Checks a host whose `/dev` and `/sys` are below `root`.
fn check_below(root: &Path, class: Class) -> Result<(), Unready> {
    let tun = (class == Class::Vif).then_some(("dev/net/tun", "tun"));
    for (device, module) in [
        ("dev/xen/evtchn", "xen-evtchn"),
        ("dev/xen/gntdev", "xen-gntdev"),
    ]
    .into_iter()
    .chain(tun)
    {
        let path = root.join(device);
        if !path.exists() {
            return Err(Unready::NoDevice { path, module });
        }
    }
    let (driver, module) = match class {
        Class::Vbd | Class::Vbd3 => ("vbd", "xen-blkback"),
        Class::Vif => ("vif", "xen-netback"),
    };
    let bus = root.join("sys/bus/xen-backend");
    // With autoprobe off the kernel's driver takes only what an administrator binds to it.
    let autoprobe =
        fs::read(bus.join("drivers_autoprobe")).is_ok_and(|text| text.starts_with(b"1"));
    if class != Class::Vbd3 && bus.join("drivers").join(driver).exists() && autoprobe {
        return Err(Unready::KernelBackend {
            class: driver,
            module,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_obstacle_is_named_with_its_remedy() {
        let root = std::env::temp_dir().join(format!("preflight-{}", std::process::id()));
        let touch = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let verdict = |class| check_below(&root, class).map_err(|error| error.to_string());

        assert!(
            verdict(Class::Vbd)
                .unwrap_err()
                .contains("modprobe xen-evtchn")
        );
        touch("dev/xen/evtchn", "");
        assert!(
            verdict(Class::Vbd)
                .unwrap_err()
                .contains("modprobe xen-gntdev")
        );
        touch("dev/xen/gntdev", "");
        assert_eq!(verdict(Class::Vbd), Ok(()));

        touch("sys/bus/xen-backend/drivers_autoprobe", "1\n");
        assert_eq!(verdict(Class::Vbd), Ok(()));
        touch("sys/bus/xen-backend/drivers/vbd/bind", "");
        let text = verdict(Class::Vbd).unwrap_err();
        assert!(text.contains("modprobe -r xen-blkback"), "{text}");
        assert!(verdict(Class::Vif).unwrap_err().contains("modprobe tun"));
        touch("dev/net/tun", "");
        assert_eq!(verdict(Class::Vif), Ok(()));
        assert_eq!(verdict(Class::Vbd3), Ok(()));

        touch("sys/bus/xen-backend/drivers_autoprobe", "0\n");
        assert_eq!(verdict(Class::Vbd), Ok(()));
        fs::remove_dir_all(root).unwrap();
    }
}
