//! The machine's images: built once per recipe, then found again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::recipe::{self, Script};
use super::{command, linux, mirror, packages};

/// Size of dom0's root filesystem, most of it free for disks of guests. A sparse file.
const DOM0_SIZE: &str = "3G";

/// Limit of the Debian bootstrap, in seconds.
const BOOTSTRAP_SECONDS: &str = "1500";

/// Everything that a machine boots from. Having one tells that all its files are complete.
#[derive(Clone, Debug)]
pub struct Image {
    dir: PathBuf,
}

impl Image {
    /// The image of the current recipe: the cached one, or a new one built now, which takes one
    /// to five minutes and a network.
    ///
    /// # Errors
    ///
    /// A package or the mirror is missing, the caller is not root, or a build step failed.
    pub fn find_or_build() -> anyhow::Result<Self> {
        packages::install_missing()?;
        let cache = cache_dir()?;
        let dir = cache.join(format!("machine-{}", recipe::images_key()));
        if !dir.is_dir() {
            ensure!(
                rustix::process::geteuid().is_root(),
                "building the real-Xen image needs root (debootstrap, chroot)"
            );
            let _one_builder = lock(&cache)?;
            let debian = debian_tree(&cache)?;
            atomically(&dir, |dir| build_images(&debian, dir))?;
        }
        Ok(Self { dir })
    }

    /// The hypervisor, an ELF file that a multiboot loader takes.
    #[must_use]
    pub fn hypervisor(&self) -> PathBuf {
        self.dir.join("xen")
    }

    /// dom0's kernel.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    /// dom0's initial RAM disk.
    #[must_use]
    pub fn initrd(&self) -> PathBuf {
        self.dir.join("dom0-initrd.gz")
    }

    /// dom0's root disk. A guest's kernel, initial RAM disk and disk lie in its `/realxen`.
    #[must_use]
    pub fn root_disk(&self) -> PathBuf {
        self.dir.join("dom0.img")
    }

    /// Where all of it lies.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// `$XDG_CACHE_HOME/xen-backends`, or `/var/cache/xen-backends`.
fn cache_dir() -> anyhow::Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(|| PathBuf::from("/var/cache"), PathBuf::from);
    let dir = base.join("xen-backends");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// Keeps other builders out until it is dropped.
fn lock(cache: &Path) -> anyhow::Result<File> {
    let path = cache.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    file.lock()
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// The trimmed Debian tree of the current recipe.
fn debian_tree(cache: &Path) -> anyhow::Result<PathBuf> {
    let tree = cache.join(format!("debian-{}", recipe::debian_key()));
    if !tree.is_dir() {
        let mirror = mirror::of_host()?;
        atomically(&tree, |tree| {
            with_script(&recipe::BUILD_DEBIAN, |script| {
                command::run(
                    Command::new("timeout")
                        .args([BOOTSTRAP_SECONDS, "sh"])
                        .arg(script)
                        .arg(tree)
                        .args([recipe::SUITE, &mirror, &recipe::packages()]),
                )
            })?;
            Ok(())
        })?;
    }
    Ok(tree)
}

fn build_images(debian: &Path, dir: &Path) -> anyhow::Result<()> {
    let kernel = fs::read(the_only(&debian.join("boot"), "vmlinuz-")?)?;
    fs::write(dir.join("vmlinuz"), &kernel)?;
    let hypervisor = debian.join("boot").join(recipe::HYPERVISOR);
    let elf = command::run(Command::new("gzip").arg("-dc").arg(hypervisor))?;
    fs::write(dir.join("xen"), elf)?;
    build_initrd(
        debian,
        &recipe::DOM0_INITRD,
        &dir.join("dom0-initrd.gz"),
        &recipe::DOM0_MODULES,
    )?;

    // A guest's files are read in dom0, so they travel inside its root disk.
    let guest = debian.join("realxen");
    fs::write(guest.join("vmlinux"), linux::unpack(&kernel)?)?;
    build_initrd(
        debian,
        &recipe::GUEST_INITRD,
        &guest.join("initrd.gz"),
        &recipe::GUEST_MODULES,
    )?;
    build_guest(
        debian,
        "disk",
        &guest.join("disk.img"),
        &recipe::GUEST_TOOLS,
    )?;
    let ram_guest = guest.join("ram-guest");
    build_guest(debian, "cpio", &ram_guest, &recipe::RAM_GUEST_TOOLS)?;
    let init = guest.join("ram-guest.init");
    build_initrd(
        debian,
        &recipe::GUEST_INITRD,
        &init,
        &recipe::RAM_GUEST_MODULES,
    )?;
    append(&init, &ram_guest)?;

    let disk = dir.join("dom0.img");
    command::run(
        Command::new("mkfs.ext4")
            .args(["-q", "-F", "-L", "dom0", "-O", "^has_journal", "-d"])
            .args([debian, &disk])
            .arg(DOM0_SIZE),
    )?;
    Ok(())
}

fn build_guest(debian: &Path, form: &str, out: &Path, tools: &[&str]) -> anyhow::Result<()> {
    with_script(&recipe::BUILD_GUEST, |script| {
        with_script(&recipe::GUEST_INIT, |init| {
            command::run(
                Command::new("sh")
                    .args([script, debian, init])
                    .arg(form)
                    .arg(out)
                    .args(tools),
            )
        })
    })?;
    Ok(())
}

/// Moves one initial RAM disk to the end of another: the kernel unpacks both.
fn append(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut target = File::options()
        .append(true)
        .open(to)
        .with_context(|| format!("cannot open {}", to.display()))?;
    let mut source = File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
    io::copy(&mut source, &mut target)
        .with_context(|| format!("cannot append to {}", to.display()))?;
    fs::remove_file(from).with_context(|| format!("cannot remove {}", from.display()))
}

fn build_initrd(debian: &Path, init: &Script, out: &Path, modules: &[&str]) -> anyhow::Result<()> {
    with_script(&recipe::BUILD_INITRD, |script| {
        with_script(init, |init| {
            command::run(
                Command::new("sh")
                    .args([script, debian, init, out])
                    .args(modules),
            )
        })
    })?;
    Ok(())
}

/// Fills a directory under another name, so that `dir` never exists half built, unless another
/// builder did it while this one waited for the lock.
fn atomically(dir: &Path, fill: impl Fn(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let mut partial = dir.as_os_str().to_owned();
    partial.push(format!(".partial-{}", std::process::id()));
    let partial = PathBuf::from(partial);
    fs::create_dir(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    let built = fill(&partial)
        .and_then(|()| fs::rename(&partial, dir).context("cannot give it its name"))
        .with_context(|| format!("cannot build {}", dir.display()));
    if built.is_err() {
        fs::remove_dir_all(&partial)
            .with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    built
}

/// Runs `with` on a file that holds the script.
fn with_script<T>(
    script: &Script,
    with: impl FnOnce(&Path) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let path = std::env::temp_dir().join(format!("realxen-{}-{}", std::process::id(), script.name));
    fs::write(&path, script.text).with_context(|| format!("cannot write {}", path.display()))?;
    let result = with(&path);
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    result
}

/// The one file in `dir` whose name starts with `prefix`.
fn the_only(dir: &Path, prefix: &str) -> anyhow::Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .with_context(|| format!("cannot list {}", dir.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
        .collect();
    ensure!(
        found.len() == 1,
        "{} holds {} files {prefix}*, not one",
        dir.display(),
        found.len()
    );
    Ok(found.remove(0))
}
