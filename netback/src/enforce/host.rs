//! What of the host itself a guest may talk to.

use super::table::{Family, Table};
use crate::policy::{HostService, VifPolicy};

/// The chain, and the name that all of them have in common.
pub(super) const HOST: &str = "host";

/// Adds the chain for frames that are for the host, if the policy says what may be.
pub(super) fn chain(table: &mut Table, policy: &VifPolicy) {
    let Some(services) = &policy.host else {
        return;
    };
    // Without these no service can be reached at all.
    let mut lines = vec!["icmpv6 type { 130-137, 143 } accept".to_owned()];
    if table.family() == Family::Bridge {
        lines.push("meta protocol != { ip, ip6 } accept".to_owned());
    }
    let lists = services.iter().map(|service| -> &[&str] {
        match service {
            HostService::Dhcp => &["udp dport { 67, 547 } accept"],
            HostService::Dns => &["udp dport 53 accept", "tcp dport 53 accept"],
            HostService::Ping => &["icmp type 8 accept", "icmpv6 type 128 accept"],
            HostService::Http => &["tcp dport 80 accept"],
        }
    });
    lines.extend(lists.flatten().map(|&line| line.to_owned()));
    lines.push(table.drop(HOST));
    table.chain(HOST, lines);
}
