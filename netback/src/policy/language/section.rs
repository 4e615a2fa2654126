//! Tables of a file, and the values in them, each of which knows where it stands.

use std::ops::Range;
use std::str::FromStr;

use broker::config::{ConfigError, unknown};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::source::{Source, Warning};

/// A table. Having one tells you that it has no key that is not known.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    source: &'a Source,
    table: &'a DeTable<'a>,
    start: usize,
}

/// The value of a key, or one of the values in its list.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    source: &'a Source,
    key: &'static str,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Section<'a> {
    /// The whole file, whose keys are judged only if it holds nothing but policies.
    pub(super) fn file(
        source: &'a Source,
        table: &'a Spanned<DeTable<'a>>,
        keys: &[&str],
    ) -> Result<Self, ConfigError> {
        let section = Self {
            source,
            table: table.get_ref(),
            start: 0,
        };
        if source.only_policies {
            section.check(keys)?;
        }
        Ok(section)
    }

    fn check(&self, keys: &[&str]) -> Result<(), ConfigError> {
        match self
            .table
            .keys()
            .find(|key| !keys.contains(&key.get_ref().as_ref()))
        {
            None => Ok(()),
            Some(key) => {
                let short: String = key.get_ref().chars().take(64).collect();
                Err(self.source.error(&key.span(), &unknown(&short, keys)))
            }
        }
    }

    /// The value of a key, if there is one.
    pub(super) fn get(&self, key: &'static str) -> Option<Item<'a>> {
        let value = self.table.get(key)?;
        Some(Item {
            source: self.source,
            key,
            value,
        })
    }

    /// The value of a key that there must be; `remedy` says what to write.
    pub(super) fn need(&self, key: &'static str, remedy: &str) -> Result<Item<'a>, ConfigError> {
        self.get(key)
            .ok_or_else(|| self.error(&format!("{key} is missing: {remedy}")))
    }

    /// The value of a key, read by `read`.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(Item<'a>) -> Result<T, ConfigError>,
    ) -> Result<Option<T>, ConfigError> {
        self.get(key).map(read).transpose()
    }

    /// Something is wrong with all of it.
    pub(super) fn error(&self, what: &str) -> ConfigError {
        self.source.error(&self.span(), what)
    }

    pub(super) fn warning(&self, what: &str) -> Warning {
        self.source.warning(&self.span(), what)
    }

    pub(super) fn source(&self) -> &'a Source {
        self.source
    }

    /// Where it begins.
    pub(super) fn span(&self) -> Range<usize> {
        self.start..self.start
    }
}

impl<'a> Item<'a> {
    /// It makes no sense: the key, what is written, and what to write instead.
    pub(super) fn wrong(&self, remedy: &str) -> ConfigError {
        let shown = self.source.shown(self.value.span());
        let what = format!("{} = {shown}: {remedy}", self.key);
        self.source.error(&self.value.span(), &what)
    }

    /// Something is wrong with it that `what` names.
    pub(super) fn error(&self, what: &str) -> ConfigError {
        self.source.error(&self.value.span(), what)
    }

    pub(super) fn doubt(&self, what: &str) -> Warning {
        let shown = self.source.shown(self.value.span());
        let what = format!("{} = {shown}: {what}", self.key);
        self.source.warning(&self.value.span(), &what)
    }

    pub(super) fn flag(self) -> Result<bool, ConfigError> {
        let flag = self.value.get_ref().as_bool();
        flag.ok_or_else(|| self.wrong("write true or false"))
    }

    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<&'a str> {
        self.value.get_ref().as_str()
    }

    /// The number, if it is one.
    pub(super) fn integer(&self) -> Option<i64> {
        let number = self.value.get_ref().as_integer()?;
        i64::from_str_radix(number.as_str(), number.radix()).ok()
    }

    /// A number from `least` to `most`.
    pub(super) fn number<T: TryFrom<i64>>(self, least: i64, most: i64) -> Result<T, ConfigError> {
        let number = self
            .integer()
            .filter(|number| (least..=most).contains(number));
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| self.wrong(&format!("write a number from {least} to {most}")))
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(self, words: &[(&str, T)]) -> Result<T, ConfigError> {
        let text = self.text();
        let found = words.iter().find(|(word, _)| Some(*word) == text);
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| self.wrong(&one_of(words)))
    }

    /// What a text stands for; `remedy` is told of what is no text.
    pub(super) fn parsed<T: FromStr<Err: ToString>>(self, remedy: &str) -> Result<T, ConfigError> {
        let text = self.text().ok_or_else(|| self.wrong(remedy))?;
        text.parse().map_err(|why: T::Err| {
            let why = why.to_string();
            let quoted = format!("{text:?} ");
            self.wrong(why.strip_prefix(&quoted).unwrap_or(&why))
        })
    }

    /// The values of a list; of anything else, itself.
    pub(super) fn each(self) -> impl Iterator<Item = Item<'a>> {
        let list = self.value.get_ref().as_array();
        let single = list.is_none().then_some(self);
        let list = list.into_iter().flat_map(|list| list.iter());
        let items = list.map(move |value| Item { value, ..self });
        single.into_iter().chain(items)
    }

    /// Is it an empty list?
    pub(super) fn is_empty_list(&self) -> bool {
        let list = self.value.get_ref().as_array();
        list.is_some_and(|list| list.is_empty())
    }

    /// As [`Self::each`], of which there must be one.
    pub(super) fn some(self) -> Result<impl Iterator<Item = Item<'a>>, ConfigError> {
        if self.is_empty_list() {
            return Err(self.wrong("the list is empty: leave the key out, or write something"));
        }
        Ok(self.each())
    }

    /// The table that it is; `form` is what to write if it is none.
    pub(super) fn table(self, keys: &[&str], form: &str) -> Result<Section<'a>, ConfigError> {
        let table = self.value.get_ref().as_table();
        let section = Section {
            source: self.source,
            table: table.ok_or_else(|| self.wrong(form))?,
            start: self.value.span().start,
        };
        section.check(keys)?;
        Ok(section)
    }

    /// The tables of an array; `form` is what to write if it is none.
    pub(super) fn tables(
        self,
        keys: &'static [&'static str],
        form: &'static str,
    ) -> Result<impl Iterator<Item = Result<Section<'a>, ConfigError>>, ConfigError> {
        if !self.value.get_ref().is_array() {
            return Err(self.source.error(&self.value.span(), form));
        }
        Ok(self.each().map(move |item| item.table(keys, form)))
    }
}

/// "write one of ..".
pub(super) fn one_of<T>(words: &[(&str, T)]) -> String {
    let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    format!("write one of {}", words.join(", "))
}
