//! What the scripts look like.

use super::*;

fn is_golden(policy: &VifPolicy, golden: &str) {
    let text = script(policy);
    // Which script it is depends on all of the text, and is of no interest here.
    let kept: Vec<&str> = text
        .split_inclusive('\n')
        .filter(|line| !line.contains("seal-"))
        .collect();
    let text = kept.concat();
    assert!(text == golden, "it is now:\n{text}");
}

#[test]
fn an_open_policy_is_no_rules() {
    let open = VifPolicy::open(MAC);
    assert!(Rules::of(&name(), &open).are_none());
    is_golden(
        &open,
        "add table netdev xb-vif7.0\ndelete table netdev xb-vif7.0\n",
    );
}

#[test]
fn guards_of_the_ethernet_header() {
    let mut policy = VifPolicy::open(MAC);
    policy.mac_guard = true;
    policy.bpdu = false;
    policy.storm = Some(200);
    is_golden(&policy, include_str!("golden/ethernet.nft"));
}

#[test]
fn rules_of_both_directions() {
    let mut policy = VifPolicy::open(MAC);
    policy.rules = vec![
        rule(Direction::Out, Protocol::Tcp, &["10.0.0.0/8"], &[(25, 25)]),
        rule(Direction::In, Protocol::Any, &["198.51.100.7"], &[]),
        rule(Direction::In, Protocol::Any, &["198.51.100.9"], &[]),
        rule(Direction::In, Protocol::Udp, &[], &[(53, 53), (500, 510)]),
    ];
    policy.rules[0].action = Action::Drop;
    policy.rules[3].limit = Some(50);
    policy.default_in = Action::Drop;
    is_golden(&policy, include_str!("golden/rules.nft"));
}

#[test]
fn a_locked_interface() {
    is_golden(&locked(), include_str!("golden/locked.nft"));
}

#[test]
fn rules_that_follow_flows() {
    let mut policy = VifPolicy::open(MAC);
    policy.mac_guard = true;
    let mut ssh = rule(Direction::In, Protocol::Tcp, &["192.0.2.0/24"], &[(22, 22)]);
    ssh.stateful = true;
    policy.rules = vec![ssh];
    policy.default_in = Action::Drop;
    is_golden(&policy, include_str!("golden/flows.nft"));
}
