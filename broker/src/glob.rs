//! Patterns of the configuration, for paths and for names.

/// A pattern: `?` is one letter and `*` any number of them, neither of them a `/` where there are
/// components; `**` is anything. There are no escapes, and letters that are not ASCII count as their
/// bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: String,
    parts: Vec<Part>,
    /// What is between components, if there are any.
    separator: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Byte(u8),
    /// `?`
    One,
    /// `*`
    Within,
    /// `**`
    Across,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GlobError {
    /// It could match nothing, because paths are absolute.
    #[error("`{0}` does not begin with `/`, so it matches no path: write the whole path")]
    Relative(String),
    /// It could match nothing, because the paths it is compared with are real ones.
    #[error(
        "`{0}` has `.`, `..` or nothing between two `/`, so it matches no path: write the real path"
    )]
    Unreal(String),
    /// It could match nothing.
    #[error("an empty pattern matches nothing: leave it out, or write \"*\"")]
    Empty,
    /// Matching would cost more than a pattern may.
    #[error("a pattern of {0} bytes: 4096 are the most")]
    Long(usize),
}

/// The longest pattern, in bytes: longer ones match no path.
const LONGEST: usize = 4096;

impl Glob {
    /// Parses a pattern of absolute, real paths.
    ///
    /// # Errors
    /// The configuration's author can mend all.
    pub fn path(text: &str) -> Result<Self, GlobError> {
        let Some(below_root) = text.strip_prefix('/') else {
            return Err(GlobError::Relative(text.to_owned()));
        };
        let unreal = |component: &str| matches!(component, "" | "." | "..");
        if !below_root.is_empty() && below_root.split('/').any(unreal) {
            return Err(GlobError::Unreal(text.to_owned()));
        }
        Self::name(text)
    }

    /// Parses a pattern of names without components, as those of guests.
    ///
    /// # Errors
    /// The configuration's author can mend all.
    pub fn whole(text: &str) -> Result<Self, GlobError> {
        let glob = Self::name(text)?;
        Ok(Self {
            separator: None,
            ..glob
        })
    }

    /// Parses a pattern of names with components, as those of volumes.
    ///
    /// # Errors
    /// The configuration's author can mend all.
    pub fn name(text: &str) -> Result<Self, GlobError> {
        match text.len() {
            0 => return Err(GlobError::Empty),
            1..=LONGEST => {}
            longer => return Err(GlobError::Long(longer)),
        }
        let mut parts = Vec::with_capacity(text.len());
        for byte in text.bytes() {
            let part = match byte {
                b'?' => Part::One,
                b'*' if matches!(parts.last(), Some(Part::Within | Part::Across)) => {
                    parts.pop();
                    Part::Across
                }
                b'*' => Part::Within,
                byte => Part::Byte(byte),
            };
            parts.push(part);
        }
        let text = text.to_owned();
        Ok(Self {
            text,
            parts,
            separator: Some(b'/'),
        })
    }

    /// Does the whole text match? The time is bounded by the product of both lengths, whatever is in
    /// them: all ways to match are followed at once, none is gone back on.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        // Whether what was read so far is matched by that many parts.
        let mut after = vec![false; self.parts.len() + 1];
        after[0] = true;
        self.skip_stars(&mut after);
        for &byte in text {
            let before = std::mem::replace(&mut after, vec![false; self.parts.len() + 1]);
            for (at, &part) in self.parts.iter().enumerate().filter(|(at, _)| before[*at]) {
                match part {
                    Part::Byte(wanted) => after[at + 1] |= wanted == byte,
                    Part::One => after[at + 1] |= self.separator != Some(byte),
                    Part::Within => after[at] |= self.separator != Some(byte),
                    Part::Across => after[at] = true,
                }
            }
            self.skip_stars(&mut after);
        }
        after[self.parts.len()]
    }

    /// A star is content with nothing.
    fn skip_stars(&self, matched: &mut [bool]) {
        for (at, part) in self.parts.iter().enumerate() {
            if matched[at] && matches!(part, Part::Within | Part::Across) {
                matched[at + 1] = true;
            }
        }
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_within_a_component_and_double_stars_do_not() {
        let cases = [
            ("/srv/xen/**", "/srv/xen/a.img", true),
            ("/srv/xen/**", "/srv/xen/deep/a.img", true),
            ("/srv/xen/**", "/srv/xenon/a.img", false),
            ("/srv/xen/*", "/srv/xen/a.img", true),
            ("/srv/xen/*", "/srv/xen/deep/a.img", false),
            ("/srv/*/disk", "/srv/vm1/disk", true),
            ("/srv/**/disk", "/srv/a/b/disk", true),
            ("/srv/*.img", "/srv/.img", true),
            ("/dev/vg?/root", "/dev/vg0/root", true),
            ("/dev/vg?/root", "/dev/vg/root", false),
            ("/dev/sd?", "/dev/sd/", false),
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("/ab", "/a", false),
            ("/**b**b**", "/abab", true),
            ("/**b**b**", "/aba", false),
            ("/***", "/a/b", true),
        ];
        for (pattern, path, expected) in cases {
            let glob = Glob::path(pattern).unwrap();
            assert_eq!(
                glob.matches(path.as_bytes()),
                expected,
                "{pattern} on {path}"
            );
        }
    }

    #[test]
    fn names_need_no_slash() {
        let web = Glob::name("web-*").unwrap();
        assert!(web.matches(b"web-1") && web.matches(b"web-"));
        assert!(!web.matches(b"a-web-1") && !web.matches(b"web-1/2"));
        let volume = Glob::name("vg0/web-*").unwrap();
        assert!(volume.matches(b"vg0/web-1") && !volume.matches(b"vg1/web-1"));
    }

    #[test]
    fn a_guests_name_has_no_components() {
        for (pattern, name, expected) in [
            ("web-*", "web-1/2", true),
            ("web?1", "web/1", true),
            ("*", "", true),
            ("web-*", "xweb-1", false),
            ("web", "web-1", false),
        ] {
            let glob = Glob::whole(pattern).unwrap();
            assert_eq!(glob.matches(name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_that_matches_nothing_is_refused() {
        for nothing in ["srv/xen/*", "", "/srv//xen", "/srv/../xen", "/./a", "/srv/"] {
            assert!(Glob::path(nothing).is_err(), "{nothing}");
        }
        assert_eq!(Glob::name(""), Err(GlobError::Empty));
        assert!(Glob::name(&"x".repeat(4097)).is_err());
    }

    #[test]
    fn many_stars_on_a_long_text_are_as_cheap_as_few() {
        // Going back on each of 40 stars would take for ever.
        let glob = Glob::path(&format!("/{}b", "**a".repeat(40))).unwrap();
        let text = format!("/{}", "a".repeat(4000));
        assert!(!glob.matches(text.as_bytes()));
        assert!(glob.matches(format!("{text}b").as_bytes()));
    }
}
