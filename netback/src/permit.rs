//! May this guest have an interface on that bridge?

use broker::Refused;
use broker::acl::{Acl, Kind, Object, Request};
use xenbus::{BackendPath, Store};

/// Asks the rules of the configuration. The bridge is what the toolstack has written, for the hotplug
/// script to use: nothing is on it yet.
///
/// # Errors
/// They refuse, or the bridge may be somebody else's word.
pub(crate) fn permit(acl: &Acl, store: &mut Store, device: &BackendPath) -> Result<(), Refused> {
    if acl.is_open() {
        return Ok(());
    }
    let key = device.key("bridge");
    let permissions = store.permissions(&key)?;
    if permissions.is_some_and(|found| found.writable_by_others_than(device.backend)) {
        return Err(Refused::host(format!(
            "{key} can be written by another domain: remove the device and attach it with a \
             toolstack that sets permissions"
        )));
    }
    let bridge = store.read(&key)?.filter(|bridge| !bridge.is_empty());
    let owner = acl.owner(store, device.frontend)?;
    let request = Request {
        owner: &owner,
        object: &object(device, bridge),
        writable: true,
    };
    acl.judge(request).map_err(Refused::host)
}

fn object(device: &BackendPath, bridge: Option<Vec<u8>>) -> Object {
    let object = Object::new(format!("interface {}", device.devid));
    match bridge {
        Some(bridge) => object.named(Kind::Bridge, bridge),
        None => object,
    }
}
