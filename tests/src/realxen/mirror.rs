//! Where the host gets its Debian packages from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The address of the mirror from which the host's own apt fetches Debian itself (not its
/// security updates), and so one that is reachable from here.
///
/// # Errors
///
/// `/etc/apt` names no mirror.
pub(super) fn of_host() -> anyhow::Result<String> {
    sources(Path::new("/etc/apt"))?
        .iter()
        .find_map(|text| first_mirror(text))
        .context("/etc/apt names no mirror of Debian; the real-Xen harness needs a Debian host")
}

/// The texts of all lists of sources below `dir`, in the order in which apt reads them.
fn sources(dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir.join("sources.list.d"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|end| end == "list" || end == "sources")
        })
        .collect();
    paths.sort();
    paths.insert(0, dir.join("sources.list"));
    paths
        .iter()
        .filter(|path| path.is_file())
        .map(|path| {
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        })
        .collect()
}

/// The first address of a `deb` line or a `URIs:` field that is a whole Debian archive.
fn first_mirror(text: &str) -> Option<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"))
        .flat_map(str::split_whitespace)
        .find(|word| word.contains("://") && !word.trim_end_matches('/').ends_with("security"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_are_read_and_security_is_passed_over() {
        let deb822 = "Types: deb\n# http://old/debian\nURIs: http://one/debian-security\n\
                      \nTypes: deb\nURIs: http://one/debian\n";
        assert_eq!(first_mirror(deb822).as_deref(), Some("http://one/debian"));
        let list = "deb-src http://src/debian x main\n\
                    deb [signed-by=/a/b] https://two/debian bookworm main\n";
        assert_eq!(first_mirror(list).as_deref(), Some("https://two/debian"));
        assert_eq!(first_mirror("# deb http://three/debian x"), None);
    }
}
