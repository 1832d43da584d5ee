//! A secret that cannot be printed by accident.
//!
//! It has no `Display` and no serialisation; its `Debug` says only that it is there.

use std::sync::Arc;

/// A token or a private key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Takes the text in.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself: only for the place that sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// `text` without this secret: for words that come from the other end, which may echo it.
    #[must_use]
    pub fn scrub(&self, text: &str) -> String {
        if self.0.is_empty() { text.to_owned() } else { text.replace(&*self.0, "•••") }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(•••)")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn it_is_not_shown_and_is_taken_out_of_other_texts() {
        let secret = Secret::new("canary-7f3a");
        assert_eq!(format!("{secret:?}"), "Secret(•••)");
        assert_eq!(secret.scrub("bad token canary-7f3a!"), "bad token •••!");
        assert_eq!(Secret::new("").scrub("as it was"), "as it was");
    }
}
