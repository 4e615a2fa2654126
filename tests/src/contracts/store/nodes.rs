//! Values, lists, permissions.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use ring_proto::DomId;
use xenbus::{Endpoint, ErrorNode, Permissions, Right, StoreError};

use super::{DEVICE, ROOT, connect, same};

pub(super) fn what_was_written_is_read(endpoint: &Endpoint) -> anyhow::Result<()> {
    let mut store = connect(endpoint)?;
    let every_byte: Vec<u8> = (0..=255).collect();
    for value in [&b""[..], b"4", b"with\0nul", &every_byte] {
        store.write(&format!("{ROOT}/value"), value)?;
        same!(
            store.read(&format!("{ROOT}/value"))?.as_deref(),
            Some(value)
        );
    }
    Ok(())
}

pub(super) fn an_absent_node_is_none(endpoint: &Endpoint) -> anyhow::Result<()> {
    let mut store = connect(endpoint)?;
    same!(store.read(&format!("{ROOT}/a/b"))?, None);
    same!(store.list(&format!("{ROOT}/a/b"))?, None);
    same!(store.permissions(&format!("{ROOT}/a/b"))?, None);
    store.remove(&format!("{ROOT}/a/b"))?;
    Ok(())
}

pub(super) fn writing_creates_what_is_above(endpoint: &Endpoint) -> anyhow::Result<()> {
    let mut store = connect(endpoint)?;
    store.write(&format!("{ROOT}/a/b/c"), "deep")?;
    same!(store.read(&format!("{ROOT}/a/b"))?, Some(vec![]));
    same!(
        store.list(&format!("{ROOT}/a"))?,
        Some(vec!["b".to_owned()])
    );
    Ok(())
}

pub(super) fn removing_takes_everything_below(endpoint: &Endpoint) -> anyhow::Result<()> {
    let mut store = connect(endpoint)?;
    store.write(&format!("{ROOT}/a/b/c"), "deep")?;
    store.write(&format!("{ROOT}/ab"), "beside")?;
    store.remove(&format!("{ROOT}/a"))?;
    same!(store.read(&format!("{ROOT}/a/b/c"))?, None);
    same!(store.list(ROOT)?, Some(vec!["ab".to_owned()]));
    Ok(())
}

pub(super) fn making_a_node_keeps_its_value(endpoint: &Endpoint) -> anyhow::Result<()> {
    let mut store = connect(endpoint)?;
    store.mkdir(&format!("{ROOT}/new"))?;
    same!(store.read(&format!("{ROOT}/new"))?, Some(vec![]));
    store.write(&format!("{ROOT}/old"), "value")?;
    store.mkdir(&format!("{ROOT}/old"))?;
    same!(
        store.read(&format!("{ROOT}/old"))?.as_deref(),
        Some(&b"value"[..])
    );
    Ok(())
}

pub(super) fn children_are_listed(endpoint: &Endpoint) -> anyhow::Result<()> {
    let mut store = connect(endpoint)?;
    store.mkdir(ROOT)?;
    same!(store.list(ROOT)?, Some(vec![]));
    for name in ["b", "a", "a-b", "10"] {
        store.write(&format!("{ROOT}/{name}/below"), "")?;
    }
    let mut names = store.list(ROOT)?.context("the directory")?;
    names.sort();
    same!(names, ["10", "a", "a-b", "b"]);
    Ok(())
}

/// More than one message can carry.
pub(super) fn a_thousand_children_are_listed(endpoint: &Endpoint) -> anyhow::Result<()> {
    let mut store = connect(endpoint)?;
    let names: BTreeSet<String> = (0..1000)
        .map(|n| format!("a-child-of-some-length-{n}"))
        .collect();
    store.transaction(|tx| {
        names
            .iter()
            .try_for_each(|name| tx.write(&format!("{ROOT}/{name}"), ""))
    })?;
    let listed = store.list(ROOT)?.context("the directory")?;
    same!(listed.len(), names.len());
    same!(listed.into_iter().collect::<BTreeSet<_>>(), names);
    Ok(())
}

pub(super) fn hundreds_of_nodes_are_read_in_order(endpoint: &Endpoint) -> anyhow::Result<()> {
    let mut store = connect(endpoint)?;
    let paths: Vec<String> = (0..300).map(|n| format!("{ROOT}/{n}")).collect();
    for (n, path) in paths.iter().enumerate().filter(|(n, _)| n % 3 != 0) {
        store.write(path, n.to_string())?;
    }
    let expected = (0..300).map(|n| (n % 3 != 0).then(|| n.to_string().into_bytes()));
    same!(store.read_many(&paths)?, expected.collect::<Vec<_>>());
    Ok(())
}

pub(super) fn sto_01_the_longest_message_goes_and_a_longer_one_is_not_sent(
    endpoint: &Endpoint,
) -> anyhow::Result<()> {
    let mut store = connect(endpoint)?;
    let limit = match endpoint {
        Endpoint::Socket(_) => 4096,
        Endpoint::Kernel(_) => 4080,
    };
    let path = format!("{ROOT}/long");
    let value = vec![b'x'; limit - path.len() - 1];
    store.write(&path, &value)?;
    same!(store.read(&path)?, Some(value.clone()));
    let longer = [&value[..], b"x"].concat();
    let refused = store.write(&path, &longer);
    ensure!(
        matches!(refused, Err(StoreError::TooLong(_))),
        "sent: {refused:?}"
    );
    same!(store.read(&path)?, Some(value));
    Ok(())
}

pub(super) fn a_path_that_is_none_is_not_sent(endpoint: &Endpoint) -> anyhow::Result<()> {
    let mut store = connect(endpoint)?;
    let long = format!("/{}", "x".repeat(3072));
    for bad in ["", "relative", "with\0nul", "@releaseDomain", &long] {
        let refused = store.read(bad);
        ensure!(
            matches!(refused, Err(StoreError::BadPath(_))),
            "{bad:.20}: {refused:?}"
        );
    }
    let refused = store.read("/double//slash");
    ensure!(
        matches!(refused, Err(StoreError::Refused { .. })),
        "{refused:?}"
    );
    same!(store.read(ROOT)?, None);
    Ok(())
}

pub(super) fn permissions_are_read_back(endpoint: &Endpoint) -> anyhow::Result<()> {
    let mut store = connect(endpoint)?;
    let path = format!("{ROOT}/node");
    store.write(&path, "")?;
    let owned = Permissions::private(DomId::new(0)).readable_by(DomId::new(0));
    let listed = vec![(DomId::new(0), Right::Both)];
    for permissions in [
        owned.clone(),
        Permissions {
            others: Right::Read,
            listed,
            ..owned
        },
    ] {
        store.set_permissions(&path, &permissions)?;
        same!(store.permissions(&path)?, Some(permissions));
    }
    Ok(())
}

pub(super) fn sto_04_new_nodes_belong_to_whom_the_directory_belongs(
    endpoint: &Endpoint,
) -> anyhow::Result<()> {
    let mut store = connect(endpoint)?;
    store.mkdir(ROOT)?;
    let permissions = Permissions {
        others: Right::Read,
        ..Permissions::private(DomId::new(0))
    };
    store.set_permissions(ROOT, &permissions)?;
    store.write(&format!("{ROOT}/a/b"), "")?;
    same!(
        store.permissions(&format!("{ROOT}/a/b"))?,
        Some(permissions)
    );
    Ok(())
}

pub(super) fn domain_0_is_there_and_a_strange_one_is_not(
    endpoint: &Endpoint,
) -> anyhow::Result<()> {
    let mut store = connect(endpoint)?;
    same!(store.own_domain()?, DomId::new(0));
    ensure!(store.is_introduced(DomId::new(0))?, "domain 0 is missing");
    ensure!(
        !store.is_introduced(DEVICE.frontend)?,
        "domain {} exists",
        DEVICE.frontend
    );
    Ok(())
}

pub(super) fn an_error_is_left_where_the_kernel_leaves_it(
    endpoint: &Endpoint,
) -> anyhow::Result<()> {
    let mut store = connect(endpoint)?;
    let mut node = ErrorNode::new(&DEVICE);
    ensure!(node.write(&mut store, 22, "first")?, "not written");
    ensure!(!node.write(&mut store, 5, "second")?, "written twice");
    let path = "/local/domain/0/error/backend/vif/32000/0/error";
    same!(store.read(path)?.as_deref(), Some(&b"22 first"[..]));
    node.clear(&mut store)?;
    same!(store.read(path)?, None);
    ensure!(
        node.write(&mut store, 5, "third")?,
        "not written after it was cleared"
    );
    Ok(())
}
