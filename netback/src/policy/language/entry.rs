//! One policy of a file.

use broker::config::ConfigError;

use super::doubts;
use super::matching::Matching;
use super::network;
use super::profile::{PROFILES, Profile};
use super::rules::{self, Defaults};
use super::section::{Item, Section};
use super::settings::{self, ACTIONS};
use super::source::{Origin, Warning};
use crate::policy::network::Network;
use crate::policy::{Action, Direction, Rule, VifPolicy};

/// A policy, as it was written: it is not known yet for whom.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(super) origin: Origin,
    pub(super) profile: Profile,
    pub(super) matching: Matching,
    /// What is said of VLANs is the policy's, and not the profile's.
    pub(super) says_vlan: bool,
    /// What the hotplug script is to do.
    pub(super) network: Option<Network>,
    /// All else. Its address is nobody's; the interface's takes its place.
    pub(super) settings: VifPolicy,
}

/// The keys that are not in [`settings::KEYS`].
const OWN_KEYS: [&str; 5] = ["name", "match", "profile", "network", "rule"];

/// How much of a message to a worker a policy may be, in bytes: some ten thousand rules.
const ENCODED_MAX: usize = broker::channel::LONG_MAX / 2;

/// The longest name.
const NAME_MAX: usize = 63;

impl Policy {
    /// All keys of a policy.
    pub(super) fn keys() -> &'static [&'static str] {
        static KEYS: [&str; 31] = {
            let mut keys = [""; 31];
            let mut at = 0;
            while at < OWN_KEYS.len() {
                keys[at] = OWN_KEYS[at];
                at += 1;
            }
            while at < keys.len() {
                keys[at] = settings::KEYS[at - OWN_KEYS.len()];
                at += 1;
            }
            keys
        };
        &KEYS
    }

    pub(super) fn read(
        section: Section<'_>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Self, ConfigError> {
        let name = section.need("name", "write name = \"web\", which the log calls it")?;
        let name = read_name(name)?;
        let matching = section.optional("match", Matching::read)?;
        let profile = section.optional("profile", |item| item.word(PROFILES))?;
        let profile = profile.unwrap_or(Profile::Locked);
        let mut policy = settings::read(section, profile, warnings)?;
        let stateful = section.optional("stateful", Item::flag)?;
        let defaults = Defaults {
            stateful: stateful.unwrap_or(profile.is_stateful()),
            mac_guard: policy.mac_guard,
        };
        let rules = rules::read(section, defaults)?;
        policy.rules = rules.iter().map(|placed| placed.rule.clone()).collect();
        policy.default_in = section
            .optional("default-in", |item| item.word(ACTIONS))?
            .unwrap_or_else(|| default_in(&policy.rules));
        policy.name = name;
        let encoded = serde_json::to_vec(&policy).map_or(usize::MAX, |encoded| encoded.len());
        if encoded > ENCODED_MAX {
            return Err(section.error(&format!(
                "the policy {} is too long for a worker, {encoded} bytes with {} rules, where \
                 {ENCODED_MAX} is the most: write fewer rules, with prefixes and ranges of ports",
                policy.name,
                policy.rules.len()
            )));
        }
        warnings.extend(doubts::of_rules(section.source(), &rules, &policy));
        Ok(Self {
            origin: section.source().origin(&section.span()),
            profile,
            matching: matching.unwrap_or_default(),
            says_vlan: section.get("vlan").is_some(),
            network: section.optional("network", network::read)?,
            settings: policy,
        })
    }

    /// What the administrator calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// It in a line: its name, what for, from what, and how many rules.
    #[must_use]
    pub fn summary(&self) -> String {
        let whom = match self.matching.is_any() {
            true => "every interface".to_owned(),
            false => self.matching.to_string(),
        };
        let (name, profile) = (self.name(), self.profile.as_str());
        let rules = self.settings.rules.len();
        let stateful = match self.settings.is_stateful() {
            true => " (stateful)",
            false => "",
        };
        format!(
            "{name}: {profile}, {rules} rules{stateful}, for {whom} [{}]",
            self.origin
        )
    }
}

/// Who says what may come in does not mean all the rest.
fn default_in(rules: &[Rule]) -> Action {
    let opens = |rule: &Rule| rule.direction == Direction::In && rule.action == Action::Accept;
    if rules.iter().any(opens) {
        Action::Drop
    } else {
        Action::Accept
    }
}

fn read_name(item: Item<'_>) -> Result<String, ConfigError> {
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let name = item
        .text()
        .filter(|name| (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(fits))
        .ok_or_else(|| item.wrong("write 1 to 63 of a-z, 0-9 and -"))?;
    if PROFILES.iter().any(|(word, _)| *word == name) {
        return Err(item.wrong("this is a profile's name: choose another"));
    }
    Ok(name.to_owned())
}
