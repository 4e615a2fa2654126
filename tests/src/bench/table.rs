//! Comparisons for people and for programs.

use serde_json::{Value, json};

use super::Comparison;

/// Prints comparisons with one peer as a table.
pub fn print(comparisons: &[Comparison]) {
    let peer = comparisons.first().map_or("peer", |first| first.peer);
    println!(
        "{:<18} {:>10} {:>10} {:>7} {:>15} {:>9} {:>9}",
        "", "ring", peer, "ratio", "quartiles", "CPU/I/O", "ratio"
    );
    for comparison in comparisons {
        let (ring, other) = comparison.medians();
        let [low, ratio, high] = comparison.iops_ratio();
        let cpu = comparison
            .cpu_ratio()
            .map_or_else(|| "-".into(), |ratio| format!("{:.2}", ratio[1]));
        let noise = if comparison.noisy > 0 {
            format!(
                "  ({} of {} noisy)",
                comparison.noisy,
                comparison.pairs.len()
            )
        } else {
            String::new()
        };
        println!(
            "{:<18} {:>10.0} {:>10.0} {:>7.2} {:>15} {:>6.1} us {:>9}{noise}",
            comparison.workload.to_string(),
            ring.iops,
            other.iops,
            ratio,
            format!("[{low:.2}..{high:.2}]"),
            ring.cpu_us,
            cpu,
        );
    }
}

/// The same as JSON: one object for each comparison.
#[must_use]
pub fn json(comparisons: &[Comparison]) -> Value {
    comparisons
        .iter()
        .map(|comparison| {
            let (ring, peer) = comparison.medians();
            json!({
                "workload": comparison.workload.to_string(),
                "peer": comparison.peer,
                "pairs": comparison.pairs.len(),
                "noisy_pairs": comparison.noisy,
                "ring_iops": ring.iops,
                "peer_iops": peer.iops,
                "iops_ratio_quartiles": comparison.iops_ratio(),
                "ring_cpu_us": ring.cpu_us,
                "peer_cpu_us": peer.cpu_us,
                "cpu_ratio_quartiles": comparison.cpu_ratio(),
            })
        })
        .collect()
}
