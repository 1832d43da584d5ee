//! A page with a limit: pieces are added whole or not at all.
//!
//! What has to be at the end is kept room for from the start, so that no path goes over the limit.

/// Text of at most a number of bytes.
#[derive(Debug)]
pub(super) struct Page {
    out: String,
    max: usize,
    kept: usize,
}

/// Room kept by [`Page::fill`] for the line that counts what was left out, bytes.
const NOTE_BYTES: usize = 160;

impl Page {
    /// A page of at most `max` bytes, of which `kept` stay free for [`Page::close`].
    pub(super) fn new(max: usize, kept: usize) -> Self {
        Self { out: String::new(), max, kept }
    }

    /// Bytes still free.
    pub(super) fn room(&self) -> usize {
        self.max.saturating_sub(self.out.len() + self.kept)
    }

    /// Adds a piece where it fits; says whether it did.
    pub(super) fn add(&mut self, piece: &str) -> bool {
        let fits = piece.len() <= self.room();
        if fits {
            self.out += piece;
        }
        fits
    }

    /// Adds `open`, as many of `items` as fit in `share` bytes, a note of how many more there are, and
    /// `close`. Adds nothing where not even one item fits. Gives how many items were added.
    pub(super) fn fill<I: Iterator<Item = String>>(
        &mut self,
        share: usize,
        (open, close): (&str, &str),
        items: I,
        note: impl FnOnce(usize) -> String,
    ) -> usize {
        let share = share.min(self.room());
        let frame = open.len() + close.len() + NOTE_BYTES;
        let (mut body, mut added, mut left) = (String::new(), 0, 0);
        for item in items {
            if left == 0 && frame + body.len() + item.len() <= share {
                body += &item;
                added += 1;
            } else {
                left += 1;
            }
        }
        if added == 0 {
            return 0;
        }
        let note = if left > 0 { note(left) } else { String::new() };
        let note = if note.len() <= NOTE_BYTES { note } else { String::new() };
        self.out += open;
        self.out += &body;
        self.out += &note;
        self.out += close;
        added
    }

    /// The page with what room was kept for.
    pub(super) fn close(mut self, end: &str) -> String {
        debug_assert!(end.len() <= self.kept, "{} bytes kept for {}", self.kept, end.len());
        if self.out.len() + end.len() <= self.max {
            self.out += end;
        }
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_never_longer_than_its_limit() {
        for max in 0..600 {
            let mut page = Page::new(max, 5);
            page.add("title\n");
            let items = (0..100).map(|n| format!("item {n}\n"));
            page.fill(300, ("<x>\n", "</x>\n"), items, |left| format!("and {left} more\n"));
            assert!(page.close("end.\n").len() <= max);
        }
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut page = Page::new(1_000, 0);
        let items = (0..100).map(|_| "0123456789".to_owned());
        assert_eq!(page.fill(220, ("", ""), items, |left| format!(" +{left}")), 6);
        assert!(page.close("").ends_with(" +94"));
    }
}
