//! Sentences of an event, few enough for it; all of them beside the log.
//!
//! An event that is too large is refused by the journal, and every pass would end there.

use std::sync::Arc;

use crate::event::Spilled;

/// Sentences in one event, and bytes of one: what a person reads. At worst JSON makes six bytes of
/// one, and together that is still less than the longest line.
pub(super) const SENTENCES_MAX: usize = 64;
const SENTENCE_BYTES_MAX: usize = 2_048;

/// Sentences of one of several lists in an event that holds more than sentences, and bytes of one.
const FEW_MAX: usize = 32;
const FEW_BYTES_MAX: usize = 512;

/// The first of `all`, each cut where it is long: few enough for an event beside much else.
pub fn few(all: Vec<String>) -> Vec<String> {
    let left = all.len().saturating_sub(FEW_MAX);
    let mut few: Vec<String> =
        all.iter().take(FEW_MAX).map(|it| short(it, FEW_BYTES_MAX)).collect();
    if left > 0 {
        few.push(format!("and {left} more"));
    }
    few
}

/// Sentences as an event holds them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sentences {
    /// The first of them.
    pub(super) said: Vec<String>,
    /// All of them, where that is more, with the content to be stored.
    pub(super) more: Option<(Spilled, Arc<[u8]>)>,
}

impl Sentences {
    /// Cuts `all` to what an event holds.
    pub(super) fn of(all: Vec<String>) -> Self {
        let mut said: Vec<String> =
            all.iter().take(SENTENCES_MAX).map(|it| short(it, SENTENCE_BYTES_MAX)).collect();
        if said == all {
            return Self { said, more: None };
        }
        if all.len() > SENTENCES_MAX {
            said.push(format!("and {} more", all.len() - SENTENCES_MAX));
        }
        Self { said, more: Spilled::of_json(&all) }
    }
}

fn short(sentence: &str, max: usize) -> String {
    if sentence.len() <= max {
        return sentence.to_owned();
    }
    let end = (0..=max).rev().find(|at| sentence.is_char_boundary(*at));
    format!("{}…", &sentence[..end.unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::promise::PROMISE_BYTES_MAX;

    #[test]
    fn what_is_too_much_for_an_event_is_counted_and_kept_whole_beside_it() {
        let few = vec!["one".to_owned(), "two".to_owned()];
        assert_eq!(Sentences::of(few.clone()), Sentences { said: few, more: None });
        // The worst there is: control characters take six bytes each.
        let many = vec!["\u{1}".repeat(3_000); 200];
        let sentences = Sentences::of(many.clone());
        assert_eq!(sentences.said.len(), SENTENCES_MAX + 1);
        assert_eq!(sentences.said.last().unwrap(), "and 136 more");
        let stored = serde_json::to_string(&sentences.said).unwrap();
        assert!(stored.len() < crate::event::envelope::LINE_BYTES_MAX * 9 / 10);
        assert!(sentences.more.is_some());
        let long = Sentences::of(vec!["é".repeat(5_000)]);
        assert!(long.said[0].ends_with("é…") && long.more.is_some());
    }

    #[test]
    fn what_a_pull_request_keeps_fits_into_one_line_of_the_log() {
        let worst = || few(vec!["\u{1}".repeat(3_000); 200]);
        let lists = serde_json::to_string(&(worst(), worst())).unwrap().len();
        assert!(lists + PROMISE_BYTES_MAX < crate::event::envelope::LINE_BYTES_MAX);
        assert_eq!(worst().last().unwrap(), "and 168 more");
        let one = vec!["one".to_owned()];
        assert_eq!(few(one.clone()), one);
    }
}
