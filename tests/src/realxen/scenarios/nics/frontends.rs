//! Frontends that use little of what there is.

use anyhow::ensure;

use super::guests::{destroy_all, dom0_station, fresh};
use crate::realxen::backend::{Backend, Devices};
use crate::realxen::dom0::Dom0;
use crate::realxen::grants;
use crate::realxen::guest::Kind;
use crate::realxen::lan;
use crate::realxen::scenario::Scenario;
use crate::realxen::traffic::Step;

/// Linux's frontend takes whatever it is offered: so it is offered nothing.
pub(super) const PLAIN: Scenario = Scenario {
    name: "net-plain-frontend",
    about: "a frontend with one event channel, one page a frame, no offload, no queues: bytes compared",
    holds_for_kernel: false,
    run: |dom0| {
        destroy_all(dom0)?;
        Backend::Daemon.stop(dom0, Devices::Nics)?;
        dom0.sh(WITHHOLD)?;
        let result = Backend::Daemon
            .start(dom0, Devices::Nics)
            .and_then(|()| serve(dom0));
        dom0.sh("rm /etc/xen-backends/netback.toml")?;
        result?;
        Backend::Daemon.stop(dom0, Devices::Nics)?;
        Backend::Daemon.start(dom0, Devices::Nics)
    },
};

const WITHHOLD: &str = "
mkdir -p /etc/xen-backends
cat > /etc/xen-backends/netback.toml <<END
max-queues = 1
scatter-gather = false
segmentation-offload = false
checksum-offload = false
multicast-control = false
split-event-channels = false
control-ring = false
xdp-headroom = false
END
";

fn serve(dom0: &mut Dom0) -> anyhow::Result<()> {
    let here = dom0_station(dom0)?;
    let there = fresh(dom0, Kind::Pv)?;
    let keys = dom0.sh(&format!(
        "xenstore-ls -f $(xenstore-read {}/frontend)",
        there.link.node
    ))?;
    ensure!(
        keys.contains("/event-channel = ") && !keys.contains("event-channel-tx"),
        "the guest has not one event channel for both:\n{keys}"
    );
    let offloads = dom0.sh(&format!("ethtool -k {}", there.link.outside))?;
    ensure!(
        offloads.contains("tcp-segmentation-offload: off"),
        "dom0 leaves packets long for a guest that takes none:\n{offloads}"
    );
    let steps = lan::BRIDGE_IPS.map(Step::all).concat();
    there.station.talk(dom0, &here, &steps)?;
    there.guest.destroy(dom0)?;
    grants::none_left(dom0)
}
