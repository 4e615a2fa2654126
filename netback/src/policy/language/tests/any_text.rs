//! No text is too much for the parser.

use proptest::prelude::*;

use super::*;

fn is_judged(text: &str) -> bool {
    match Policies::parse(Path::new("x"), text) {
        Ok((policies, _)) => read_again(&policies),
        Err(error) => {
            let error = error.to_string();
            error.starts_with("x:") && !error.contains('\n') && error.len() < 2000
        }
    }
}

fn read_again(policies: &Policies) -> bool {
    let printed = policies.to_string();
    let again = Policies::parse(Path::new("x"), &printed);
    again.is_ok_and(|(again, _)| again.to_string() == printed)
}

proptest! {
    /// Whatever the text, it is policies or a mistake in one line.
    #[test]
    fn no_text_is_too_much(text in "\\PC*") {
        prop_assert!(is_judged(&text), "{}", text);
    }

    /// The same of texts that are nearly right.
    #[test]
    fn no_change_of_the_example_is_too_much(
        at in any::<prop::sample::Index>(),
        cut in 0_usize..12,
        put in "[\\[\\]{}\"'=.,:/0-9a-z\\n\\\\ü#-]{0,6}",
    ) {
        let chars: Vec<char> = example().chars().collect();
        let at = at.index(chars.len());
        let end = (at + cut).min(chars.len());
        let (before, behind) = (chars[..at].iter(), chars[end..].iter());
        let text: String = before.copied().chain(put.chars()).chain(behind.copied()).collect();
        prop_assert!(is_judged(&text), "{}", text);
    }
}
