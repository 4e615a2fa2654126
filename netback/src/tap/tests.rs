use std::process::Command;
use std::time::{Duration, Instant};

use super::*;

mod bridge;
mod guest;
mod kernel;

/// Runs `test` on a thread with a network of its own.
pub(crate) fn in_own_network(test: impl FnOnce() + Send + 'static) {
    std::thread::spawn(|| {
        sys::own_network().unwrap();
        test();
    })
    .join()
    .unwrap();
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn name() -> TapName {
    TapName::of_vif(7, 0).unwrap()
}

/// No link of that name is left. Another test's child, between fork and exec, has copies of all
/// descriptors, so that the last one may be closed a moment later than it was here.
fn is_gone(name: &str) -> bool {
    (0..1000).any(|_| !ip("-o link show").contains(name))
}

fn exists() -> bool {
    ip("-o link show").contains("vif7.0")
}

/// A tap that was removed is gone: at once, or when no child that another test is just starting has
/// its descriptor any more.
fn goes() {
    let deadline = Instant::now() + Duration::from_secs(5);
    while name().is_taken() {
        assert!(Instant::now() < deadline, "it is there still");
        std::thread::yield_now();
    }
    assert!(!exists());
}

/// An Ethernet frame from somebody to everybody, behind an empty virtio header.
fn frame(fill: u8) -> Vec<u8> {
    let mut bytes = vec![0; 12];
    bytes.extend([0xff; 6]);
    bytes.extend([2, 0, 0, 0, 0, 1]);
    bytes.extend([0x88, 0xb5]);
    bytes.extend([fill; 50]);
    bytes
}

#[test]
fn net_25_names_are_checked() {
    for good in ["vif1.0", "a", "web-front_0", "x.y", "123456789012345"] {
        assert_eq!(TapName::parse(good).unwrap().as_str(), good);
    }
    for bad in [
        "",
        ".",
        "..",
        "1234567890123456",
        "a b",
        "a/b",
        "a:0",
        "\u{e9}",
        "a\n",
        "vif%d",
    ] {
        let error = TapName::parse(bad).unwrap_err().to_string();
        assert!(error.contains("use 1 to 15 letters"), "{error}");
    }
    assert_eq!(TapName::of_vif(32751, 3).unwrap().as_str(), "vif32751.3");
    assert!(TapName::of_vif(32751, u32::MAX).is_err());
}

#[test]
fn the_vif_of_a_tap_is_in_its_name() {
    let vif = |name: &str| TapName::parse(name).unwrap().vif();
    assert_eq!(vif("vif7.0"), Some((7, 0)));
    assert_eq!(vif("vif32751.13"), Some((32751, 13)));
    for other in [
        "vif7.0-emu",
        "vif07.0",
        "vif7",
        "vif7.",
        "web0",
        "vif70000.1",
    ] {
        assert_eq!(vif(other), None, "{other}");
    }
}

#[test]
fn net_25_a_name_is_taken_by_whatever_interface_has_it() {
    in_own_network(|| {
        assert!(!name().is_taken());
        let tap = Tap::create(&name(), 1500, 500).unwrap();
        assert!(name().is_taken() && TapName::parse("lo").unwrap().is_taken());
        tap.remove().unwrap();
        goes();
        ip("link add vif7.0 type bridge");
        assert!(name().is_taken(), "a bridge is no tap, but it is there");
        assert!(Tap::adopt(&name()).is_err(), "and is not ours to take");
    });
}

#[test]
fn what_an_earlier_process_left_can_be_removed() {
    in_own_network(|| {
        drop(Tap::create(&name(), 1500, 500).unwrap());
        assert!(exists(), "it outlives its maker");
        Tap::adopt(&name()).unwrap().remove().unwrap();
        goes();
    });
}

#[test]
fn net_24_a_new_tap_is_down_and_says_nothing() {
    in_own_network(|| {
        let tap = Tap::create(&name(), 9000, 500).unwrap();
        let shown = ip("-d link show vif7.0");
        assert!(shown.contains("state DOWN"), "{shown}");
        assert!(shown.contains("mtu 9000"), "{shown}");
        assert!(shown.contains("qlen 500"), "{shown}");
        assert!(shown.contains("fe:ff:ff:ff:ff:ff"), "{shown}");
        ip("link set vif7.0 up");
        let shown = ip("link show vif7.0");
        assert!(shown.contains("NO-CARRIER"), "{shown}");
        assert!(
            tap.set_carrier(true).is_err(),
            "there is nobody to take frames"
        );
        let _queue = tap.queue().unwrap();
        tap.set_carrier(true).unwrap();
        assert!(!ip("link show vif7.0").contains("NO-CARRIER"));
        let addresses = ip("addr show vif7.0");
        assert!(!addresses.contains("inet6"), "{addresses}");
    });
}

/// The kernel's own word on the carrier; `ip` shows it only when others have been told.
fn plugged() -> bool {
    let script = "mount -t sysfs sysfs /sys && cat /sys/class/net/vif7.0/carrier";
    let shell = ["--mount", "sh", "-c", script];
    let output = Command::new("unshare").args(shell).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout == b"1\n"
}

#[test]
fn only_who_is_asked_to_moves_the_carrier() {
    in_own_network(|| {
        let tap = Tap::create(&name(), 1500, 500).unwrap();
        ip("link set vif7.0 up");
        let first = TapQueue::adopt(tap.queue().unwrap());
        assert!(!plugged(), "a queue that is only opened");
        drop(first);
        let first = TapQueue::adopt(tap.queue().unwrap());
        tap.set_carrier(true).unwrap();
        assert!(plugged());
        let second = TapQueue::adopt(tap.queue().unwrap());
        assert!(plugged(), "one queue more");
        drop(second);
        drop(first);
        assert!(plugged(), "a worker has died");
        let again = TapQueue::adopt(tap.queue().unwrap());
        assert!(plugged(), "the next one takes over");
        drop(tap);
        let tap = Tap::adopt(&name()).unwrap();
        assert!(plugged(), "a new broker");
        tap.set_carrier(false).unwrap();
        drop(tap);
        drop(again);
        let tap = Tap::adopt(&name()).unwrap();
        assert!(!plugged(), "a new broker, after the guest has gone");
        tap.remove().unwrap();
    });
}

/// Kernels before Linux 6.3 do not know the flag that asks for no carrier: without it, this one does
/// what those do.
#[test]
fn net_24_a_tap_that_nobody_serves_has_no_carrier_after_it_was_adopted() {
    in_own_network(|| {
        drop(Tap::create(&name(), 1500, 500).unwrap());
        ip("link set vif7.0 up");
        // A child of another test's may hold the descriptor a moment longer: then nobody adopts.
        let deadline = Instant::now() + Duration::from_secs(10);
        let tap = loop {
            let tap = Tap::attach(&name(), 0).unwrap();
            if plugged() {
                break tap;
            }
            let late = Instant::now() > deadline;
            assert!(!late, "the flag makes no difference: what is this for?");
        };
        let tap = tap.unplugged().unwrap();
        assert!(!plugged());
        drop(tap);
        let tap = Tap::adopt_idle(&name()).unwrap();
        assert!(!plugged());
        let _queue = tap.queue().unwrap();
        tap.set_carrier(true).unwrap();
        assert!(plugged(), "its guest has connected");
        tap.remove().unwrap();
    });
}

#[test]
fn a_name_that_is_taken_is_an_error_with_a_remedy() {
    in_own_network(|| {
        ip("link add vif7.0 type bridge");
        let error = Tap::create(&name(), 1500, 500).unwrap_err().to_string();
        assert!(error.contains("ip link delete vif7.0"), "{error}");
        assert!(exists(), "somebody else's interface was removed");
    });
}

#[test]
fn the_link_outlives_worker_and_broker() {
    in_own_network(|| {
        let tap = Tap::create(&name(), 1500, 500).unwrap();
        let queue = TapQueue::adopt(tap.queue().unwrap());
        drop(tap);
        drop(queue);
        assert!(exists());
        let again = Tap::create(&name(), 1500, 500).unwrap_err();
        assert!(matches!(again, TapError::Exists(_)), "{again}");
        let tap = Tap::adopt(&name()).unwrap();
        let queue = TapQueue::adopt(tap.queue().unwrap());
        tap.remove().unwrap();
        assert!(exists(), "a worker still has it");
        drop(queue);
        assert!(is_gone("vif7.0"));
    });
}

#[test]
fn a_renamed_tap_is_still_ours() {
    in_own_network(|| {
        let tap = Tap::create(&name(), 1500, 500).unwrap();
        ip("link set vif7.0 name web");
        assert_eq!(tap.name().unwrap(), "web");
        drop(tap.queue().unwrap());
        tap.remove().unwrap();
        assert!(is_gone("web"));
    });
}

#[test]
fn frames_go_through_a_workers_queue_and_not_the_brokers() {
    in_own_network(|| {
        let tap = Tap::create(&name(), 1500, 500).unwrap();
        let queues: Vec<TapQueue> = (0..2)
            .map(|_| TapQueue::adopt(tap.queue().unwrap()))
            .collect();
        tap.set_carrier(true).unwrap();
        ip("link set vif7.0 up");
        for queue in &queues {
            let bytes = frame(7);
            assert_eq!(rustix::io::write(queue, &bytes), Ok(bytes.len()));
        }
        let counted = ip("-s link show vif7.0");
        let received = counted
            .lines()
            .skip_while(|line| !line.contains("RX:"))
            .nth(1);
        let packets = received.and_then(|line| line.split_whitespace().nth(1));
        assert_eq!(packets, Some("2"), "from the guest is received: {counted}");
        // To the guest: what the host sends there comes out of one of the queues, with a header.
        ip("addr add 192.0.2.1/24 dev vif7.0");
        ip("neigh add 192.0.2.2 lladdr 00:16:3e:00:00:01 dev vif7.0");
        let socket = std::net::UdpSocket::bind("192.0.2.1:0").unwrap();
        socket.send_to(b"to the guest", "192.0.2.2:9").unwrap();
        let queue = queues.iter().find(|queue| queue.has_frames()).unwrap();
        let mut bytes = [0; 2048];
        let len = rustix::io::read(queue, &mut bytes).unwrap();
        assert!(bytes[..len].ends_with(b"to the guest"));
        assert_eq!(&bytes[12..18], &[0, 0x16, 0x3e, 0, 0, 1]);
        tap.remove().unwrap();
    });
}

#[test]
fn offloads_follow_what_is_set() {
    in_own_network(|| {
        let tap = Tap::create(&name(), 1500, 500).unwrap();
        let queue = TapQueue::adopt(tap.queue().unwrap());
        tap.set_carrier(true).unwrap();
        ip("link set vif7.0 up");
        ip("addr add 192.0.2.1/24 dev vif7.0");
        ip("neigh add 192.0.2.2 lladdr 00:16:3e:00:00:01 dev vif7.0");
        let socket = std::net::UdpSocket::bind("192.0.2.1:0").unwrap();
        let flags_of_next = || {
            socket.send_to(b"x", "192.0.2.2:9").unwrap();
            let mut bytes = [0; 2048];
            rustix::io::read(&queue, &mut bytes).unwrap();
            bytes[0]
        };
        assert_eq!(
            flags_of_next(),
            0,
            "checksums are completed until agreed to"
        );
        let checksum = Offload {
            checksum: true,
            ..Offload::default()
        };
        tap.set_offload(checksum).unwrap();
        assert_eq!(flags_of_next(), 1, "VIRTIO_NET_HDR_F_NEEDS_CSUM");
        tap.set_offload(Offload::default()).unwrap();
        assert_eq!(flags_of_next(), 0);
        tap.remove().unwrap();
    });
}

/// `ip link delete`, while its owner has it.
#[test]
fn a_tap_that_somebody_else_has_removed_says_so_whatever_is_asked_of_it() {
    in_own_network(|| {
        let tap = Tap::create(&name(), 1500, 500).unwrap();
        let queue = TapQueue::adopt(tap.queue().unwrap());
        ip("link delete vif7.0");
        let asked = [
            tap.name().map(drop),
            tap.mtu().map(drop),
            tap.queue().map(drop),
            tap.set_offload(Offload::default()),
            tap.set_carrier(true),
            queue.set_carrier(true),
            tap.remove(),
        ];
        for answer in asked {
            assert!(matches!(answer, Err(TapError::Gone)), "{answer:?}");
        }
        assert!(!exists(), "it is back");
    });
}
