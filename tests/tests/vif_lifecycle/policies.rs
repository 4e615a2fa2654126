//! What policies go by: which files, and what the toolstack says of a guest.

use anyhow::{Context, ensure};
use broker::owner::Owner;
use netback::policy::language::Policies;
use netback::wish::Wish;
use pv_tests::scene::Scene;
use pv_tests::toolstack::{NicLine, backend_path};
use ring_proto::DomId;
use xenbus::{BackendPath, Class, Permissions, State};

use super::nic;

const UUID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

#[test]
fn con_04_what_governs_is_the_toolstacks_and_not_the_guests() -> anyhow::Result<()> {
    let mut scene = Scene::networked_without_daemon("")?;
    let guest = scene.guest()?;
    let (domid, line) = (guest.domid(), nic(1));
    scene.toolstack().write_nic_keys(domid, &line)?;
    let home = format!("/local/domain/{domid}");
    let backend = backend_path(domid, line.device());
    let store = scene.toolstack().store();
    let nodes = [
        (format!("{home}/name"), "web-1--incoming".to_owned()),
        (format!("{home}/vm"), format!("/vm/{UUID}")),
        (format!("{backend}/ip"), "192.0.2.7".to_owned()),
        (format!("{backend}/bridge"), "xenbr0".to_owned()),
        (format!("{backend}/vlan"), "5".to_owned()),
    ];
    for (path, value) in &nodes {
        store.write(path, value)?;
    }
    // The guest would like to be another one.
    let mut own = guest.store()?;
    for (path, _) in &nodes {
        ensure!(own.write(path, "db-1").is_err(), "the guest writes {path}");
    }
    let device = BackendPath {
        backend: DomId::new(0),
        class: Class::Vif,
        frontend: domid,
        devid: line.handle,
    };
    let wish = Wish::read(store, &device)??;
    let vif = wish.vif(&device, Owner::read(store, domid)?);
    let text = format!(
        "[[policy]]\nname = \"w\"\nmatch = {{ domain = \"web-1\", uuid = \"{UUID}\", \
         bridge = \"xenbr0\", domid = {domid}, handle = {} }}",
        line.handle
    );
    let (policies, _) = Policies::parse("policy.toml".as_ref(), &text)?;
    let governed = policies.govern(&vif)?;
    ensure!(governed.policy.name == "w", "{}", governed.why);
    ensure!(governed.policy.mac.0 == line.mac, "whose address?");
    let own = governed.policy.addresses.context("no guard")?.own;
    ensure!(own == ["192.0.2.7".parse()?], "{own:?}");
    Ok(())
}

/// As a driver domain sees guests: no interface is served by less than what may be meant for it.
#[test]
fn con_04_a_guest_whose_name_may_not_be_read_is_refused_where_it_matters() -> anyhow::Result<()> {
    let config = "\n[[policy]]\nname = \"web\"\nmatch = { domain = \"web-*\", handle = 0 }\n";
    let mut scene = Scene::networked(config)?;
    let guest = scene.guest()?;
    let (domid, line) = (guest.domid(), nic(1));
    let home = format!("/local/domain/{domid}");
    // What the guest could have written itself is nobody's word.
    let name = format!("{home}/name");
    let store = scene.toolstack().store();
    store.write(&name, "db-1")?;
    let own = Permissions::private(domid);
    store.set_permissions(&name, &own)?;
    scene.toolstack().write_nic_keys(domid, &line)?;
    let refused = scene
        .daemon()?
        .wait_log("policy \"web\" of ")
        .context("it is served")?;
    ensure!(refused.contains("name is not known"), "{refused}");
    let tap = line.interface(domid);
    ensure!(!scene.network()?.has(&tap)?, "{tap} is there");
    // Another handle is nobody's in doubt.
    let other = NicLine::new(1, line.mac);
    scene.toolstack().write_nic_keys(domid, &other)?;
    let ready = [State::InitWait];
    scene
        .toolstack()
        .wait_backend(domid, other.device(), &ready)?;
    ensure!(scene.network()?.has(&other.interface(domid))?, "no tap");
    scene.no_wrong_done()
}

#[test]
fn a_policy_that_makes_no_sense_stops_the_daemon_and_is_told_with_its_place() -> anyhow::Result<()>
{
    let config = "\n[[policy]]\nname = \"web\"\nip-gard = true\n";
    let scene = Scene::networked_without_daemon(config)?;
    let start = scene.daemon_start();
    let mut daemon = start.spawn(None)?;
    ensure!(!daemon.wait_exit()?.success(), "it takes anything");
    daemon.wait_log("netback.toml:4:1: there is no key \"ip-gard\"; did you mean \"ip-guard\"?")?;
    Ok(())
}

#[test]
fn con_04_the_hotplug_script_is_told_what_the_policy_says_and_not_by_the_guest()
-> anyhow::Result<()> {
    let config = "\n[[policy]]\nname = \"hidden\"\nmatch = { handle = 0 }\n\
                  network = { mode = \"nat\", uplink = \"eth0\", forwards = [\"tcp 8080 -> 80\"] }\n";
    let mut scene = Scene::networked(config)?;
    let guest = scene.guest()?;
    let (domid, line) = (guest.domid(), nic(1));
    let backend = backend_path(domid, line.device());
    scene.toolstack().write_nic_keys(domid, &line)?;
    let device = line.device();
    let ready = [State::InitWait];
    scene.toolstack().wait_backend(domid, device, &ready)?;
    let mut own = guest.store()?;
    for (key, expected) in [
        ("network/mode", "nat"),
        ("network/gateway", ""),
        ("network/uplink", "eth0"),
        ("network/forwards", "tcp any 8080 guest 80"),
    ] {
        let path = format!("{backend}/{key}");
        let value = scene.toolstack().store().read(&path)?;
        let value = value.with_context(|| format!("there is no {key}"))?;
        ensure!(value == expected.as_bytes(), "{key}: {value:?}");
        ensure!(own.write(&path, "x").is_err(), "the guest writes {key}");
    }
    scene.no_wrong_done()
}
