//! `docs/policy.md` says what is so: its policies are read, the interfaces in it governed by them, and
//! each packet in it judged; its tables of keys have all keys, with the defaults that hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use broker::owner::Owner;
use clap::Parser as _;
use netback::cli::{Cli, Command, PolicyCommand};
use netback::config::Config;
use netback::enforce::{Count, Counters};
use netback::filter::Reason;
use netback::inquiry::{Drops, Shown};
use netback::policy::language::{Policies, Vif};
use netback::policy::{Direction, Mac, VifPolicy};
use netback::trial;
use pv_tests::spoof::{Site, matrix};
use ring_proto::DomId;

const PAGE: &str = include_str!("../../docs/policy.md");
const MANUAL: &str = include_str!("../../netback/src/policy/language.rs");

/// What a page is made of, as far as it is tested.
#[derive(Debug)]
enum Part {
    /// What stands between fences, and the word at the first of them.
    Block(String, String),
    /// The cells of its rows; the first row is the heads.
    Table(Vec<Vec<String>>),
}

fn parts(page: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(word) = line.strip_prefix("```") {
            let inside = lines.by_ref().take_while(|line| *line != "```");
            let text = inside.fold(String::new(), |text, line| text + line + "\n");
            parts.push(Part::Block(word.to_owned(), text));
        } else if line.starts_with('|') {
            let mut rows = vec![cells(line)];
            while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(cells(row));
            }
            // The line below the heads.
            rows.remove(1);
            parts.push(Part::Table(rows));
        }
    }
    parts
}

fn cells(row: &str) -> Vec<String> {
    let inside = row.trim_matches('|').split('|');
    inside.map(|cell| cell.trim().to_owned()).collect()
}

/// The rows below heads that begin with `heads`.
fn tables(heads: &[&str]) -> Vec<Vec<Vec<String>>> {
    let tables = parts(PAGE).into_iter().filter_map(|part| match part {
        Part::Table(rows) if rows[0].iter().take(heads.len()).eq(heads) => Some(rows),
        _ => None,
    });
    tables.map(|rows| rows[1..].to_vec()).collect()
}

/// What stands between backticks.
fn code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn read(text: &str) -> anyhow::Result<Policies> {
    let file = Path::new("policy.md");
    Config::parse(file, text).with_context(|| text.to_owned())?;
    let (policies, warnings) = Policies::parse(file, text).with_context(|| text.to_owned())?;
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    ensure!(warnings.is_empty(), "{text}\n{}", warnings.join("\n"));
    Ok(policies)
}

/// The interface of a guest's configuration.
fn vif(text: &str) -> anyhow::Result<Vif> {
    let (mut domain, mut keys) = (None, BTreeMap::new());
    for line in text.lines() {
        let (key, value) = line.split_once(" = ").context("key = value")?;
        let value = value.trim_matches(|c| "[] \"".contains(c));
        match key {
            "name" => domain = Some(value.to_owned()),
            "vif" => {
                keys = value
                    .split(',')
                    .filter_map(|pair| pair.split_once('='))
                    .collect();
            }
            other => bail!("{other}: only name and vif are tested"),
        }
    }
    let ip = keys.remove("ip").unwrap_or_default();
    let ip = ip.split_whitespace().map(str::parse);
    let found = Vif {
        owner: Owner {
            name: domain,
            ..Owner::numbered(DomId::new(7))
        },
        handle: 0,
        mac: keys.remove("mac").context("mac")?.parse()?,
        bridge: keys.remove("bridge").map(str::to_owned),
        ip: ip.collect::<Result<_, _>>()?,
        vlan: None,
        rate: None,
    };
    ensure!(keys.is_empty(), "{keys:?} are not tested");
    Ok(found)
}

/// The frame that the words `named` are, from the guest of `policy`, among the neighbours of examples.
fn frame(policy: &VifPolicy, named: &str) -> anyhow::Result<(Direction, Vec<u8>)> {
    if let [arguments] = code(named)[..] {
        let words = ["xen-netback", "policy", "test", "vif7.0"].into_iter();
        let cli = Cli::try_parse_from(words.chain(arguments.split(' ')))?;
        let Command::Policy(PolicyCommand::Test(test)) = cli.command else {
            bail!("{arguments}: not of policy test");
        };
        return trial::frame(&test, policy);
    }
    let mut site = Site::example();
    site.own.mac = policy.mac.0;
    for own in policy.addresses.iter().flat_map(|addresses| &addresses.own) {
        match own.address() {
            IpAddr::V4(v4) => site.own.v4 = v4,
            IpAddr::V6(v6) => site.own.v6 = v6,
        }
    }
    let mut all = matrix(&site).into_iter();
    let spoof = all.find(|spoof| spoof.name == named);
    Ok((
        Direction::Out,
        spoof.with_context(|| named.to_owned())?.frame,
    ))
}

#[test]
fn every_packet_of_the_page_gets_its_verdict() -> anyhow::Result<()> {
    let (mut policies, mut policy) = (Policies::default(), None);
    let (mut judged, mut governing, mut reasons) = (0, BTreeSet::new(), BTreeSet::new());
    let mut wrong = Vec::new();
    for part in parts(PAGE) {
        match part {
            Part::Block(word, text) if word == "toml" => {
                (policies, policy) = (read(&text)?, None);
            }
            Part::Block(word, text) if word == "text" => {
                let governed = policies.govern(&vif(&text)?)?;
                ensure!(
                    policies.iter().any(|p| p.name() == governed.policy.name),
                    "{text}: {}",
                    governed.why
                );
                governing.insert(governed.policy.name.clone());
                policy = Some(governed.policy);
            }
            Part::Table(rows) if rows[0] == ["packet", "verdict"] => {
                let policy = policy.as_ref().context("a table without an interface")?;
                for row in &rows[1..] {
                    let (packet, verdict) = (&row[0], code(&row[1]).concat());
                    let (direction, frame) = frame(policy, packet)?;
                    let told = trial::judge(policy, direction, &frame).to_string();
                    if told != verdict {
                        wrong.push(format!("{}: {packet}: {told}, not {verdict}", policy.name));
                    }
                    judged += 1;
                    reasons.extend(told.split(' ').nth(1).map(str::to_owned));
                }
            }
            _ => {}
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(judged > 40, "{judged} packets were judged");
    let expected = [
        "router-inside",
        "router-outside",
        "tenant",
        "tenants",
        "web",
    ];
    ensure!(governing.iter().eq(expected), "{governing:?}");
    for reason in ["mac", "l2", "vlan", "arp", "dhcp", "ra", "nd", "ip", "rule"] {
        ensure!(reasons.contains(reason), "no example of {reason}");
    }
    Ok(())
}

#[test]
fn every_command_of_the_page_is_one() -> anyhow::Result<()> {
    let mut tried = 0;
    for part in parts(PAGE) {
        let Part::Block(word, text) = part else {
            continue;
        };
        ensure!(
            ["toml", "text", "sh", "log"].contains(&word.as_str()),
            "{word}"
        );
        for line in text.lines().filter(|_| word == "sh") {
            let command = line.split('#').next().unwrap_or_default();
            Cli::try_parse_from(command.split_whitespace()).context(line.to_owned())?;
            tried += 1;
        }
    }
    ensure!(tried > 8, "{tried} commands");
    Ok(())
}

/// The example of what `policy show` has counted.
#[test]
fn counters_look_as_the_page_has_them() -> anyhow::Result<()> {
    let kernel = |packets, bytes| Count { packets, bytes };
    let shown = Shown {
        interface: "vif7.0".into(),
        why: "an example".into(),
        policy: VifPolicy::open(Mac([0; 6])),
        kernel: Counters {
            out: [("pass".to_owned(), kernel(40, 4210))].into(),
            into: BTreeMap::new(),
            rules: [(1, kernel(7, 420))].into(),
        },
        worker: Some(Drops {
            out: [("ip".to_owned(), 12)].into(),
            into: BTreeMap::new(),
            rules: [(1, 7)].into(),
        }),
    };
    let example = parts(PAGE).into_iter().find_map(|part| match part {
        Part::Block(word, text) if word == "log" => Some(text),
        _ => None,
    });
    let example = example.context("no example")?;
    ensure!(
        shown.to_string().ends_with(example.trim_end()),
        "{shown}\n{example}"
    );
    Ok(())
}

#[test]
fn every_reason_is_told_in_its_order() {
    let [rows] = &tables(&["reason"])[..] else {
        unreachable!("one table of reasons");
    };
    let told: Vec<_> = rows.iter().flat_map(|row| code(&row[0])).collect();
    assert_eq!(told, Reason::ALL.map(Reason::name));
}

/// Keys of the tables in the language's own documentation: of policies, and of rules.
fn keys_of_the_language() -> Vec<BTreeSet<String>> {
    let manual = MANUAL
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .fold(String::new(), |text, line| text + line.trim_start() + "\n");
    let tables = parts(&manual).into_iter().filter_map(|part| match part {
        Part::Table(rows) => Some(rows),
        Part::Block(..) => None,
    });
    let keys = |rows: Vec<Vec<String>>| {
        let keys = rows[1..].iter().flat_map(|row| code(&row[0]));
        keys.map(str::to_owned).collect()
    };
    tables.map(keys).collect()
}

#[test]
fn every_key_is_there() {
    let told: Vec<BTreeSet<String>> = tables(&["key"])
        .iter()
        .map(|rows| {
            let keys = rows.iter().flat_map(|row| code(&row[0]));
            keys.map(str::to_owned).collect()
        })
        .collect();
    assert_eq!(told, keys_of_the_language());
    assert_eq!(told[0].len() + told[1].len(), 30 + 9);
}

/// A policy of a profile with `keys`, and a rule by which one sees whether rules are stateful.
fn profiled(profile: &str, keys: &str) -> anyhow::Result<VifPolicy> {
    let text = format!(
        "[[policy]]\nname = \"p\"\nprofile = {profile}\n{keys}\n[[policy.rule]]\ndirection = \
         \"out\"\nprotocol = \"udp\"\naction = \"accept\"\n"
    );
    let someone = "name = \"x\"\nvif = [ \"mac=00:16:3e:5a:0b:07\" ]";
    Ok(read(&text)?.govern(&vif(someone)?)?.policy)
}

#[test]
fn every_default_is_what_holds() -> anyhow::Result<()> {
    let [rows] = &tables(&["key", "values", "open", "locked", "isolated"])[..] else {
        bail!("not one table of keys with defaults");
    };
    let mut tried = 0;
    for row in rows.iter().filter(|row| row[0] != "`profile`") {
        let key = code(&row[0]).concat();
        for (profile, default) in ["open", "locked", "isolated"].iter().zip(&row[2..5]) {
            let profile = format!("{profile:?}");
            let Some(value) = code(default).first().copied() else {
                ensure!(default == "–", "{key}: {default}");
                continue;
            };
            let (without, with) = (
                profiled(&profile, "")?,
                profiled(&profile, &format!("{key} = {value}"))?,
            );
            ensure!(without == with, "{key} = {value} is not {profile}");
            tried += 1;
        }
    }
    ensure!(tried > 40, "{tried} defaults");
    ensure!(
        profiled("\"locked\"", "")? == {
            let text = "[[policy]]\nname = \"p\"\n[[policy.rule]]\ndirection = \"out\"\nprotocol = \
                        \"udp\"\naction = \"accept\"\n";
            let someone = "name = \"x\"\nvif = [ \"mac=00:16:3e:5a:0b:07\" ]";
            read(text)?.govern(&vif(someone)?)?.policy
        },
        "locked is not what holds if no profile is said"
    );
    Ok(())
}

#[test]
fn every_value_can_be_written() -> anyhow::Result<()> {
    let mut tried = 0;
    for (place, rows) in tables(&["key", "values"]).iter().enumerate() {
        for row in rows {
            let key = code(&row[0]).concat();
            for value in code(&row[1]) {
                let line = format!("{key} = {value}");
                let text = match (place, key.as_str()) {
                    (0, "name") => format!("[[policy]]\n{line}\n"),
                    (0, "bpdu") => policy(&format!("l2 = \"any\"\n{line}")),
                    (0, "burst-out") => policy(&format!("rate-out = \"1Gbit/s\"\n{line}")),
                    (0, "burst-in") => policy(&format!("rate-in = \"1Gbit/s\"\n{line}")),
                    (0, _) => policy(&line),
                    _ => rule(&key, &line),
                };
                read(&text)?;
                tried += 1;
            }
        }
    }
    ensure!(tried > 70, "{tried} values");
    Ok(())
}

fn policy(line: &str) -> String {
    format!("[[policy]]\nname = \"p\"\n{line}\n")
}

/// A rule with this line, and with what must be there besides.
fn rule(key: &str, line: &str) -> String {
    let besides = [
        ("direction", "direction = \"out\""),
        ("action", "action = \"accept\""),
        ("protocol", "protocol = \"tcp\""),
    ];
    let besides = besides.iter().filter(|(other, _)| *other != key);
    let besides: Vec<_> = besides.map(|(_, line)| *line).collect();
    // Answers are let in, which a policy is asked about that lets only some in.
    policy(&format!(
        "default-in = \"accept\"\n[[policy.rule]]\n{line}\n{}",
        besides.join("\n")
    ))
}
