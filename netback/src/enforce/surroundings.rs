//! What the host has besides interfaces of guests.

use std::fs;

use super::shared::Surroundings;
use crate::policy::Mac;
use crate::tap::TapName;

impl Surroundings {
    /// As it is now. What cannot be read is not there.
    pub(super) fn now() -> Self {
        let mut now = Self::default();
        for name in TapName::all().unwrap_or_default() {
            let read = |what: &str| {
                let path = format!("/sys/class/net/{}/{what}", name.as_str());
                fs::read_to_string(path).ok()
            };
            // Ends of guests' interfaces all have one address, which no frame is for.
            let mac = read("address").and_then(|text| text.trim().parse::<Mac>().ok());
            let mac = mac.filter(|mac| mac.0 != NOBODY && !now.macs.contains(mac));
            now.macs.extend(mac);
            if read("bridge/bridge_id").is_some() {
                let index = read("ifindex").and_then(|text| text.trim().parse::<u32>().ok());
                let zone = index.and_then(|index| u16::try_from(index % 0xffff + 1).ok());
                now.bridges.extend(zone.map(|zone| (name, zone)));
            }
        }
        now
    }
}

const NOBODY: [u8; 6] = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff];
