//! A picture as text blocks, for a terminal and for a code block of Markdown. Without colour.

use super::{Cell, Picture, Row};

/// Columns of one slice: at least so many that `1g` is readable.
const WIDTH_MIN: usize = 4;
/// And at most so many that 12 slices stay within 100 columns.
const WIDTH_MAX: usize = 7;

/// Which characters are drawn with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// Box drawing.
    Unicode,
    /// ASCII only.
    Ascii,
}

impl Charset {
    fn border(self) -> char {
        match self {
            Self::Unicode => '│',
            Self::Ascii => '|',
        }
    }

    fn free(self) -> char {
        match self {
            Self::Unicode => '·',
            Self::Ascii => '.',
        }
    }
}

impl Picture {
    /// The picture as lines, each with a line feed: a ruler, the rows, what did not go into a cell
    /// and what the signs mean.
    #[must_use]
    pub fn text(&self, charset: Charset) -> String {
        let width = self.width();
        let title = self.rows.iter().map(|row| row.title.chars().count()).max().unwrap_or(0);
        let mut text = format!("{:title$} ", "");
        for unit in 0..self.units {
            text.push_str(&format!(" {unit:<width$}"));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        let mut cut = Vec::new();
        for row in &self.rows {
            text.push_str(&format!("{:<title$} ", row.title));
            self.row(row, width, charset, &mut text, &mut cut);
            text.push('\n');
        }
        for line in cut {
            text.push_str(&format!("{:title$}  {line}\n", ""));
        }
        let marks: Vec<String> =
            self.marks().iter().map(|mark| format!("{} {}", mark.sign(), mark.word())).collect();
        if !marks.is_empty() {
            text.push_str(&format!("{:title$}  {}\n", "", marks.join("   ")));
        }
        text
    }

    /// Columns of a slice, without its border: the least with which every label is whole.
    fn width(&self) -> usize {
        let cells = self.rows.iter().flat_map(|row| &row.cells);
        let need = |cell: &Cell| {
            let size = columns(cell.size).max(1);
            // The sign, the label, a space; the borders between its slices are free to it.
            (cell.label.chars().count() + 3).div_ceil(size).saturating_sub(1)
        };
        cells.map(need).max().unwrap_or(0).clamp(WIDTH_MIN, WIDTH_MAX)
    }

    fn row(
        &self,
        row: &Row,
        width: usize,
        charset: Charset,
        text: &mut String,
        cut: &mut Vec<String>,
    ) {
        let mut unit = 0;
        text.push(charset.border());
        while unit < self.units {
            if let Some(cell) = row.cells.iter().find(|cell| cell.start == unit && cell.size > 0) {
                let columns = columns(cell.size) * (width + 1) - 1;
                let label = format!("{}{}", cell.mark.sign(), cell.label);
                if label.chars().count() > columns {
                    let short: String = label.chars().take(columns - 1).collect();
                    text.push_str(&format!("{short}~"));
                    cut.push(format!("{} {}: {}", row.title, cell.start, cell.label));
                } else {
                    text.push_str(&format!("{label:<columns$}"));
                }
                unit += cell.size;
            } else {
                text.extend(std::iter::repeat_n(charset.free(), width));
                unit += 1;
            }
            text.push(charset.border());
        }
    }
}

fn columns(units: u32) -> usize {
    usize::try_from(units).unwrap_or(0)
}
