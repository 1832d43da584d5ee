//! A picture as SVG: plain rectangles and text, without scripts, styles or anything from elsewhere,
//! so that a forge that shows SVG shows this one.

use super::{Mark, Picture};

/// Width of a memory slice, in pixels; 12 of them fit into a comment.
const UNIT: u32 = 56;
/// Height of a row.
const HEIGHT: u32 = 34;
/// Between rows, and around.
const GAP: u32 = 10;
/// Room for the titles.
const LEFT: u32 = 60;
/// About the width of a character at 12 pixels.
const CHARACTER: u32 = 7;

/// Fill and border: light enough for black text on any page.
fn colours(mark: Mark) -> (&'static str, &'static str) {
    match mark {
        Mark::Kept => ("#dbe4ee", "#57606a"),
        Mark::InUse => ("#b6d4fe", "#0a53be"),
        Mark::Changed => ("#fff3bf", "#a67c00"),
        Mark::Destroyed => ("#ffd7d5", "#a40e26"),
        Mark::Created => ("#c9f2d0", "#1a7f37"),
    }
}

impl Picture {
    /// The picture as one SVG element.
    #[must_use]
    pub fn svg(&self) -> String {
        let rows = u32::try_from(self.rows.len()).unwrap_or(0);
        let width = LEFT + self.units * UNIT + GAP;
        let marks = self.marks();
        let legend = if marks.is_empty() { 0 } else { 20 };
        let height = GAP + 14 + rows * (HEIGHT + GAP) + legend;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"monospace\" font-size=\"12\" \
             role=\"img\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
        );
        for unit in 0..self.units {
            svg.push_str(&words(LEFT + unit * UNIT + 2, 16, "#57606a", &unit.to_string()));
        }
        let mut top = GAP + 14;
        for row in &self.rows {
            svg.push_str(&words(GAP, top + 21, "#1f2328", &row.title));
            for unit in 0..self.units {
                svg.push_str(&rectangle(LEFT + unit * UNIT, top, UNIT, ("#f6f8fa", "#d0d7de"), ""));
            }
            for cell in &row.cells {
                let (left, wide) = (LEFT + cell.start * UNIT, cell.size * UNIT);
                let told = format!("{}: {}", cell.label, cell.mark.word());
                svg.push_str(&rectangle(left, top, wide, colours(cell.mark), &told));
                let room = usize::try_from((wide / CHARACTER).saturating_sub(1)).unwrap_or(0);
                let label = format!("{}{}", cell.mark.sign(), cell.label);
                let label: String = label.trim_start().chars().take(room).collect();
                svg.push_str(&words(left + 4, top + 21, "#1f2328", &label));
            }
            top += HEIGHT + GAP;
        }
        let legend: Vec<String> =
            marks.iter().map(|mark| format!("{} {}", mark.sign(), mark.word())).collect();
        if !legend.is_empty() {
            svg.push_str(&words(LEFT, top + 8, "#57606a", &legend.join("   ")));
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn rectangle(x: u32, y: u32, width: u32, (fill, stroke): (&str, &str), title: &str) -> String {
    let head = format!(
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{HEIGHT}\" fill=\"{fill}\" \
         stroke=\"{stroke}\""
    );
    if title.is_empty() {
        return format!("{head}/>\n");
    }
    format!("{head}><title>{}</title></rect>\n", escaped(title))
}

fn words(x: u32, y: u32, fill: &str, text: &str) -> String {
    format!("<text x=\"{x}\" y=\"{y}\" fill=\"{fill}\">{}</text>\n", escaped(text))
}

/// Names come from a repository: nothing in them may become markup.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            control if control.is_control() => safe.push(' '),
            other => safe.push(other),
        }
    }
    safe
}
