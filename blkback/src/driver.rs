//! The broker's side of block devices: what to advertise, and what a worker needs to serve one.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use broker::control::{self, Answer, Right};
use broker::message::Blame;
use broker::{Connection, Driver, Hypervisor, Refused};
use ring_proto::blkif::Abi;
use xenbus::{BackendPath, BlockOffer, Class, Connects, Key, OfferLimits, RingOffer, Store};

use crate::config::{Config, DEFAULT_FILE};
use crate::features::{self, Offered};
use crate::image::{self, Image, Owner, Refusal, Wanted};
use crate::spec::{DiskSpec, RingSpec, VbdSpec};
use crate::wish::Wish;

/// How soon an image that is in use is tried again. A device that is just going away holds its
/// lock until its last write has landed.
const RETRY: Duration = Duration::from_millis(250);

/// The command that has the configuration read again.
pub const RELOAD: &str = "reload";

/// Block devices.
#[derive(Debug)]
pub struct BlockDriver {
    config: Config,
    /// Where it was read; `None`: where it is looked for.
    file: Option<PathBuf>,
    hypervisor: Hypervisor,
    /// What frontends were told before they set up their rings, and what is expected of them then.
    offered: BTreeMap<BackendPath, Offered>,
    /// What connected devices have open, until they begin to close.
    serving: BTreeMap<BackendPath, PathBuf>,
}

impl BlockDriver {
    /// Serves disks as `config` says, which was read from `file`.
    #[must_use]
    pub const fn new(config: Config, file: Option<PathBuf>, hypervisor: Hypervisor) -> Self {
        Self {
            config,
            file,
            hypervisor,
            offered: BTreeMap::new(),
            serving: BTreeMap::new(),
        }
    }

    fn wish(store: &mut Store, device: &BackendPath) -> Result<Wish, Refused> {
        // STO-05: what somebody else could have written is nobody's order to open a file.
        for node in [device.to_string(), device.key("params")] {
            let permissions = store.permissions(&node)?;
            if permissions.is_some_and(|found| found.writable_by_others_than(device.backend)) {
                return Err(Refused::host(format!(
                    "{node} can be written by another domain: remove the device and attach it \
                     with a toolstack that sets permissions"
                )));
            }
        }
        Wish::read(store, device)?.map_err(Refused::host)
    }

    fn offered(&self, device: &BackendPath) -> Offered {
        let told = self.offered.get(device);
        told.copied().unwrap_or(self.config.offered)
    }

    fn reload(&mut self) -> Result<String, Refused> {
        self.config = Config::load(self.file.as_deref()).map_err(Refused::host)?;
        let default = Path::new(DEFAULT_FILE);
        let file = self.file.as_deref().unwrap_or(default);
        Ok(format!(
            "{} is read again: it is for disks that are attached from now on",
            file.display()
        ))
    }
}

impl Driver for BlockDriver {
    fn class(&self) -> Class {
        Class::Vbd
    }

    fn connects(&self) -> Connects {
        Connects::WhenInitialised
    }

    fn advertise(
        &mut self,
        store: &mut Store,
        device: &BackendPath,
    ) -> Result<Vec<Key<'static>>, Refused> {
        let wish = Self::wish(store, device)?;
        if let Some(wanted) = wish.early() {
            let policy = &self.config.policy;
            let guest = policy.acl.owner(store, device.frontend)?;
            image::inspect(&wanted, policy, &guest)
                .map_err(|refusal| self.refused(device, &wanted, &refusal))?;
        }
        self.offered.insert(*device, self.config.offered);
        Ok(features::before_rings(self.config.offered))
    }

    fn connect(&mut self, store: &mut Store, device: &BackendPath) -> Result<Connection, Refused> {
        let wish = Self::wish(store, device)?;
        let offered = self.offered(device);
        let limits = OfferLimits {
            queues: offered.queues.into(),
            ring_page_order: offered.ring_page_order.into(),
        };
        let offer = BlockOffer::read(store, device, limits)?;
        let abi = Abi::parse(offer.protocol.as_deref().map(str::as_bytes));
        abi.map_err(|unknown| Refused::Because {
            blame: Blame::Guest,
            why: unknown.to_string(),
        })?;
        let owner = Owner {
            domid: device.frontend.raw(),
            vdev: device.devid,
        };
        let wanted = wish.image();
        let policy = &self.config.policy;
        let guest = policy.acl.owner(store, device.frontend)?;
        let image = image::open(&wanted, policy, owner, &guest)
            .map_err(|refusal| self.refused(device, &wanted, &refusal))?;
        self.warn_of_large_sectors(store, device, &image)?;
        let spec = self.spec(owner, offered, &wish, &offer, &image);
        let summary = summary(&spec, &wish, &image);
        let keys = features::before_connected(offered, wish.drive, &image.shape);
        let path = image.path;
        let mut fds: Vec<OwnedFd> = vec![image.file];
        for _ in &offer.rings {
            let events = self.hypervisor.event_channels(device.frontend);
            fds.push(events.map_err(Refused::host)?);
            fds.push(self.hypervisor.grants().map_err(Refused::host)?);
        }
        let spec = serde_json::to_value(&spec).map_err(Refused::host)?;
        self.serving.insert(*device, path);
        Ok(Connection {
            spec,
            fds,
            keys,
            summary,
        })
    }

    fn commands(&self) -> &'static [control::Command] {
        &[control::Command {
            name: RELOAD,
            right: Right::Operator,
            changes: true,
        }]
    }

    fn control(
        &mut self,
        _store: &mut Store,
        request: &control::Request,
    ) -> Result<Answer, Refused> {
        match request.command.as_str() {
            RELOAD => Ok(Answer::from(serde_json::Value::String(self.reload()?))),
            other => Err(Refused::host(format!("{other} is no command of disks"))),
        }
    }

    fn closing(&mut self, device: &BackendPath) {
        self.serving.remove(device);
    }

    fn forgotten(&mut self, device: &BackendPath) {
        self.offered.remove(device);
    }
}

impl BlockDriver {
    fn spec(
        &self,
        owner: Owner,
        offered: Offered,
        wish: &Wish,
        offer: &BlockOffer,
        image: &Image,
    ) -> VbdSpec {
        VbdSpec {
            domid: owner.domid,
            vdev: owner.vdev,
            protocol: offer.protocol.clone(),
            persistent: offered.persistent && offer.persistent,
            max_indirect_segments: offered.indirect_segments,
            disk: DiskSpec {
                sectors: image.shape.sectors,
                sector_size: image.shape.sector_size,
                read_only: wish.drive.read_only,
                block_device: image.shape.block_device,
                discard: image.shape.discard,
                flush: !wish.drive.read_only,
            },
            engine: self.config.engine,
            rings: offer.rings.iter().map(ring).collect(),
        }
    }

    /// An image in use may be free in a moment, unless a device that goes on serving has it.
    fn refused(&self, device: &BackendPath, wanted: &Wanted, refusal: &Refusal) -> Refused {
        let path = &wanted.path;
        let mut others = self.serving.iter().filter(|(other, _)| *other != device);
        match others.find(|(_, held)| *held == path) {
            Some((other, _)) if refusal.may_pass() => Refused::host(format!(
                "image {path:?} is in use by disk {} of guest {}: detach it there, attach it \
                 read-only everywhere, or list it under `shared` in the configuration",
                other.devid, other.frontend
            )),
            None if refusal.may_pass() => Refused::Busy {
                why: refusal.to_string(),
                retry_after: RETRY,
            },
            _ => Refused::host(refusal),
        }
    }

    /// Frontends before `feature-large-sector-size` read 4 KiB sectors wrongly (FE-19).
    fn warn_of_large_sectors(
        &self,
        store: &mut Store,
        device: &BackendPath,
        image: &Image,
    ) -> Result<(), Refused> {
        let key = device.frontend_key("feature-large-sector-size");
        if image.shape.sector_size > 512 && store.read(&key)?.is_none() {
            tracing::debug!(
                domid = %device.frontend,
                device = device.devid,
                sector_size = image.shape.sector_size,
                "the frontend does not say whether it can use such sectors"
            );
        }
        Ok(())
    }
}

fn ring(offer: &RingOffer) -> RingSpec {
    RingSpec {
        refs: offer.refs.iter().map(|gref| gref.raw()).collect(),
        port: offer.port,
    }
}

fn summary(spec: &VbdSpec, wish: &Wish, image: &Image) -> String {
    let mode = if spec.disk.read_only {
        "read-only"
    } else {
        "read-write"
    };
    let size = spec.disk.sectors / 2048;
    let (path, queues) = (image.path.display(), spec.rings.len());
    let pages = spec.rings.first().map_or(0, |ring| ring.refs.len());
    let persistent = if spec.persistent {
        ", persistent grants"
    } else {
        ""
    };
    let cdrom = if wish.drive.cdrom { " CD-ROM" } else { "" };
    let buffered = image.buffered_because.as_ref();
    let buffered = buffered.map_or_else(String::new, |why| {
        format!("; through the host's page cache, because {why}")
    });
    format!(
        "{path:?}, {size} MiB{cdrom}, {mode}, {queues} queues of {pages} \
         pages{persistent}{buffered}"
    )
}
