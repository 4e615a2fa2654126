//! The number that a guest keeps wherever it runs.

use std::fmt;
use std::str::FromStr;

/// A UUID.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Uuid(u128);

/// A text that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no UUID: write it as xl list -v shows it, 8-4-4-4-12 hexadecimal digits")]
pub struct BadUuid(());

/// Where the hyphens are.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

impl FromStr for Uuid {
    type Err = BadUuid;

    fn from_str(text: &str) -> Result<Self, BadUuid> {
        let form = text.len() == 36
            && text.bytes().enumerate().all(|(at, c)| {
                if HYPHENS.contains(&at) {
                    c == b'-'
                } else {
                    c.is_ascii_hexdigit()
                }
            });
        let digits = text.replace('-', "");
        let number = form.then(|| u128::from_str_radix(&digits, 16).ok());
        number.flatten().map(Self).ok_or(BadUuid(()))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, digit) in format!("{:032x}", self.0).chars().enumerate() {
            if [8, 12, 16, 20].contains(&at) {
                f.write_str("-")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_read_in_its_one_form_and_either_case() {
        let text = "0f8fad5b-d9cb-469f-a165-70867728950e";
        let uuid: Uuid = text.parse().unwrap();
        assert_eq!(uuid.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(uuid));
        for text in [
            "",
            "0f8fad5bd9cb469fa16570867728950e",
            "0f8fad5b-d9cb-469f-a165-70867728950",
            "0f8fad5b-d9cb-469f-a165-70867728950g",
            "0f8fad5b-d9cb-469f-a1657-0867728950e",
            "+f8fad5b-d9cb-469f-a165-70867728950e",
            "ü8fad5b-d9cb-469f-a165-70867728950e",
        ] {
            assert!(text.parse::<Uuid>().is_err(), "{text}");
        }
    }
}
