//! Path patterns of the configuration.

/// An absolute path pattern: `*` and `?` stay within one component, `**` crosses them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GlobError {
    /// It could match nothing, because paths are absolute.
    #[error("`{0}` does not begin with `/`, so it matches no image: write the whole path")]
    Relative(String),
    /// Matching would take too long.
    #[error("`{0}` has more than 8 `*`: write several patterns")]
    TooManyStars(String),
}

impl Glob {
    /// Parses a pattern.
    ///
    /// # Errors
    /// The configuration's author can mend both.
    pub fn parse(text: &str) -> Result<Self, GlobError> {
        if !text.starts_with('/') {
            return Err(GlobError::Relative(text.to_owned()));
        }
        if text.matches('*').count() > 8 {
            return Err(GlobError::TooManyStars(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// Does the whole path match?
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        matches(self.0.as_bytes(), path)
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Backtracks at stars only, of which there are few.
fn matches(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', b'*', rest @ ..] => (0..=path.len()).any(|skip| matches(rest, &path[skip..])),
        [b'*', rest @ ..] => {
            let component = path.iter().position(|&c| c == b'/').unwrap_or(path.len());
            (0..=component).any(|skip| matches(rest, &path[skip..]))
        }
        [wanted, rest @ ..] => match path {
            [c, tail @ ..] => {
                (c == wanted || (*wanted == b'?' && *c != b'/')) && matches(rest, tail)
            }
            [] => false,
        },
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
        ];
        for (pattern, path, expected) in cases {
            let glob = Glob::parse(pattern).unwrap();
            assert_eq!(
                glob.matches(path.as_bytes()),
                expected,
                "{pattern} on {path}"
            );
        }
    }

    #[test]
    fn a_pattern_that_matches_nothing_or_takes_for_ever_is_refused() {
        assert!(Glob::parse("srv/xen/*").is_err());
        assert!(Glob::parse("").is_err());
        assert!(Glob::parse("/*/*/*/*/*/*/*/*/*").is_err());
        assert!(Glob::parse("/**/**/**/**").is_ok());
    }
}
