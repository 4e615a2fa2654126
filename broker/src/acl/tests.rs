//! Rules, from their text to their verdict.

use serde::Deserialize;

use super::*;
use crate::config::ConfigError;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
#[derive(Default)]
struct File {
    acl: Vec<Entry>,
    acl_default: Fallback,
}

fn parse_as(dialect: Dialect, text: &str) -> Result<Acl, ConfigError> {
    let file = std::path::Path::new("/etc/b.toml");
    let parsed: File = toml::from_str(text)
        .map_err(|error| ConfigError::of_toml(file, text, &error, &["acl", "acl-default"]))?;
    Acl::parse(file, text, dialect, &parsed.acl, parsed.acl_default)
}

fn disks(text: &str) -> Acl {
    parse_as(Dialect::DISKS, text).unwrap()
}

const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

fn guest(domid: u16, name: &str) -> Owner {
    Owner {
        domid: DomId::new(domid),
        name: Some(name.to_owned()),
        uuid: Some(UUID.to_owned()),
    }
}

fn image(path: &str) -> Object {
    Object::new(format!("image {path:?}")).named(Kind::Path, path)
}

fn judge(acl: &Acl, owner: &Owner, object: &Object, writable: bool) -> Result<(), String> {
    let request = Request {
        owner,
        object,
        writable,
    };
    acl.judge(request).map_err(|denied| denied.to_string())
}

const RULES: &str = r#"acl-default = "deny"

[[acl]]
domain = "web-*"
paths = "/srv/web/secret/**"
deny = true

[[acl]]
domain = ["web-*", "db"]
paths = ["/srv/web/**", "/srv/iso/web.iso"]
volumes = "vg0/web-*"

[[acl]]
paths = "/srv/iso/**"
access = "read-only"

[[acl]]
domid = [7, 9]
uuid = "01234567-89AB-CDEF-0123-456789ABCDEF"
volumes = "vg1/*"
"#;

#[test]
fn the_first_rule_that_is_about_guest_and_object_decides() {
    let acl = disks(RULES);
    let (web, db, other) = (guest(7, "web-1"), guest(8, "db"), guest(9, "mail"));
    let volume = |name: &str| Object::new(format!("{name:?}")).named(Kind::Volume, name);
    for (owner, object, read, write) in [
        (&web, image("/srv/web/a.img"), true, true),
        (&web, image("/srv/web/secret/a.img"), false, false),
        (&db, image("/srv/web/secret/a.img"), true, true),
        (&other, image("/srv/web/a.img"), false, false),
        (&other, image("/srv/iso/web.iso"), true, false),
        (&web, image("/srv/iso/web.iso"), true, true),
        (&web, image("/srv/iso/debian.iso"), true, false),
        (&web, volume("vg0/web-1"), true, true),
        (&web, volume("vg0/db"), false, false),
        (&web, volume("vg1/db"), true, true),
        (&db, volume("vg1/db"), false, false),
        (&web, image("/etc/shadow"), false, false),
    ] {
        let who = format!("{owner}, {object}");
        assert_eq!(judge(&acl, owner, &object, false).is_ok(), read, "{who}");
        assert_eq!(judge(&acl, owner, &object, true).is_ok(), write, "{who}");
    }
    let stranger = Owner {
        uuid: Some(UUID.replace('0', "f")),
        ..web
    };
    assert!(judge(&acl, &stranger, &volume("vg1/db"), false).is_err());
}

#[test]
fn a_refusal_names_rule_guest_object_and_remedy() {
    let acl = disks(RULES);
    let web = guest(7, "web-1");
    for (path, expected) in [
        (
            "/srv/web/secret/a.img",
            "the [[acl]] rule at /etc/b.toml:3 denies guest 7 (\"web-1\") image \
             \"/srv/web/secret/a.img\"",
        ),
        (
            "/srv/iso/x.iso",
            "the [[acl]] rule at /etc/b.toml:13 grants guest 7 (\"web-1\") image \
             \"/srv/iso/x.iso\" for reading only: attach it read-only (access=ro)",
        ),
        (
            "/x",
            "acl-default = \"deny\" in /etc/b.toml, and no [[acl]] rule there grants guest 7 \
             (\"web-1\") image \"/x\": add one",
        ),
    ] {
        let told = judge(&acl, &web, &image(path), true).unwrap_err();
        assert!(told.starts_with(expected), "{told}");
    }
}

#[test]
fn an_object_is_known_by_each_of_its_names() {
    let text = "[[acl]]\npaths = \"/srv/db/**\"\ndeny = true";
    let looped = image("/dev/loop3").named(Kind::Path, "/srv/db/a.img");
    let told = judge(&disks(text), &guest(7, "a"), &looped, false).unwrap_err();
    assert!(
        told.ends_with("image \"/dev/loop3\" (\"/srv/db/a.img\")"),
        "{told}"
    );
}

#[test]
fn who_cannot_be_known_is_refused_where_it_matters_and_nowhere_else() {
    let acl = disks(
        "[[acl]]\npaths = \"/a\"\n\n[[acl]]\ndomain = \"web\"\npaths = \"/b\"\ndeny = true\n\n\
         [[acl]]\nuuid = \"01234567-89ab-cdef-0123-456789abcdef\"\npaths = \"/c\"",
    );
    let nobody = Owner::numbered(DomId::new(7));
    for (path, told) in [
        (
            "/b",
            "/etc/b.toml:4 may be about guest 7 and image \"/b\", but the guest's name is not known",
        ),
        ("/c", "but the guest's UUID is not known"),
    ] {
        let refused = judge(&acl, &nobody, &image(path), false).unwrap_err();
        assert!(refused.contains(told), "{refused}");
    }
    assert_eq!(judge(&acl, &nobody, &image("/a"), true), Ok(()));
    assert_eq!(judge(&acl, &nobody, &image("/d"), true), Ok(()));
}

#[test]
fn an_interface_that_names_no_bridge_is_refused_where_bridges_matter() {
    let acl = parse_as(
        Dialect::INTERFACES,
        "[[acl]]\nbridges = [\"mgmt\"]\ndeny = true",
    )
    .unwrap();
    let unnamed = Object::new("interface 0".to_owned());
    let told = judge(&acl, &guest(7, "a"), &unnamed, true).unwrap_err();
    assert!(
        told.contains("interface 0, but no bridge is named"),
        "{told}"
    );
    let lan = unnamed.named(Kind::Bridge, "xenbr0");
    assert_eq!(judge(&acl, &guest(7, "a"), &lan, true), Ok(()));
}

#[test]
fn without_rules_everything_is_as_it_was() {
    let acl = disks("");
    assert!(acl.is_open());
    assert_eq!(acl, Acl::default());
    assert_eq!(judge(&acl, &guest(7, "a"), &image("/a"), true), Ok(()));
    let shut = disks("acl-default = \"deny\"");
    assert!(!shut.is_open());
    assert!(judge(&shut, &guest(7, "a"), &image("/a"), false).is_err());
}

#[test]
fn what_is_printed_is_what_was_read() {
    let acl = disks(RULES);
    let printed = acl.to_string();
    let again = disks(&printed);
    assert_eq!(again.to_string(), printed);
    assert_eq!(again.rules.len(), 4);
    let bridges = "acl-default = \"allow\"\n\n[[acl]]\nbridges = [\"a\"]\ndeny = false";
    let acl = parse_as(Dialect::INTERFACES, bridges).unwrap();
    assert_eq!(acl.to_string(), bridges);
}

#[test]
fn every_mistake_is_named_with_its_line_and_its_remedy() {
    for (text, expected) in [
        (
            "acl-default = \"none\"",
            ":1:15: acl-default = \"none\": write one of \"allow\", \"deny\"",
        ),
        (
            "[[acl]]\ndomain = \"a\"\npath = \"/a\"",
            ":3:1: in [[acl]], there is no key \"path\"; did you mean \"paths\"?",
        ),
        (
            "[[acl]]\nbridges = \"a\"",
            "the keys are domain, uuid, domid, paths, volumes, access, deny",
        ),
        ("[[acl]]\ndomain = 7", ":2:10: domain: 7 is no text"),
        (
            "[[acl]]\n\ndomain = []",
            ":3:10: domain = [] is about nothing: leave it out to mean everything",
        ),
        ("[[acl]]\ndomain = [\"\"]", "an empty pattern"),
        (
            "[[acl]]\ndomid = 40000",
            ":2:9: domid: 40000 is not a number from 0 to 32751",
        ),
        (
            "[[acl]]\ndomid = [1, \"x\"]",
            "domid: \"x\" is not a number",
        ),
        ("[[acl]]\nuuid = \"x\"", ":2:8: uuid: \"x\" is no UUID like"),
        (
            "[[acl]]\npaths = \"srv\"",
            ":2:9: paths: `srv` does not begin with `/`",
        ),
        ("[[acl]]\npaths = \"/srv/../etc/*\"", "write the real path"),
        (
            "[[acl]]\nvolumes = \"/dev/vg0/web\"",
            ":2:11: volumes: \"/dev/vg0/web\" is no logical volume: write \"GROUP/VOLUME\"",
        ),
        ("[[acl]]\nvolumes = \"vg0\"", "is no logical volume"),
        (
            "[[acl]]\naccess = \"rw\"",
            ":2:10: access = \"rw\": write one of \"read-only\", \"writable\"",
        ),
        ("[[acl]]\ndeny = 1", ":2:8: deny = 1: write true or false"),
        (
            "\n[[acl]]\ndeny = true\naccess = \"writable\"",
            ":2:1: deny = true and access in one rule",
        ),
        ("acl = 3", ":1:7: invalid type"),
    ] {
        let error = parse_as(Dialect::DISKS, text).unwrap_err().to_string();
        assert!(error.starts_with("/etc/b.toml:"), "{text}: {error}");
        assert!(error.contains(expected), "{text}: {error}");
        assert!(!error.contains('\n'), "{text}: {error}");
    }
    let error = parse_as(Dialect::INTERFACES, "[[acl]]\nbridges = \"a/b\"").unwrap_err();
    assert!(error.to_string().contains("no name of a bridge"), "{error}");
}

#[test]
fn an_explanation_goes_from_rule_to_rule() {
    let acl = disks(RULES);
    let ask = |object: &Object| {
        let owner = guest(7, "web-1");
        acl.explain(Request {
            owner: &owner,
            object,
            writable: true,
        })
    };
    assert_eq!(
        ask(&image("/srv/iso/x.iso")),
        "image \"/srv/iso/x.iso\":\n  \
         /etc/b.toml:3 is not about it: paths\n  \
         /etc/b.toml:8 is not about it: paths\n  \
         /etc/b.toml:13 decides: access = \"read-only\""
    );
    assert!(ask(&image("/x")).ends_with("\n  acl-default = \"deny\" decides"));
}
