//! Who is at the other end, and what he may.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Right;
use crate::sys;

/// The process that made a connection, as it was then.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    uid: u32,
    groups: Vec<u32>,
}

impl Peer {
    /// That of a connected socket.
    pub(super) fn of(socket: &impl AsFd) -> io::Result<Self> {
        let (uid, gid) = sys::peer_credentials(socket.as_fd())?;
        let mut groups = sys::peer_groups(socket.as_fd())?;
        groups.push(gid);
        Ok(Self { uid, groups })
    }

    /// May he? The socket's group is that which its file has now: an administrator may have given it
    /// another one.
    pub(super) fn may(&self, right: Right, socket: &Path) -> bool {
        let own = rustix::process::geteuid().as_raw();
        if right == Right::Anyone || self.uid == 0 || self.uid == own {
            return true;
        }
        fs::symlink_metadata(socket).is_ok_and(|file| self.groups.contains(&file.gid()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn whoever_may_open_the_socket_may_ask_and_its_group_may_tell() {
        let path = std::env::temp_dir().join(format!("control-peer-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        let group = fs::metadata(&path).unwrap().gid();
        let peer = |uid, groups: &[u32]| Peer {
            uid,
            groups: groups.to_vec(),
        };
        let stranger = group + 1;
        let nobody = rustix::process::geteuid().as_raw() + 4711;
        for (peer, may) in [
            (peer(0, &[stranger]), true),
            (peer(nobody, &[stranger]), false),
            (peer(nobody, &[stranger, group]), true),
            (peer(nobody, &[]), false),
        ] {
            assert_eq!(peer.may(Right::Operator, &path), may, "{peer:?}");
            assert!(peer.may(Right::Anyone, &path));
        }
        fs::remove_file(&path).unwrap();
        assert!(!peer(nobody, &[group]).may(Right::Operator, &path));
    }

    #[test]
    fn the_kernel_says_who_it_is() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert!(peer.groups.contains(&rustix::process::getegid().as_raw()));
    }
}
