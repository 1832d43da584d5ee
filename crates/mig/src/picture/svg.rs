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
/// Height of a title above a picture of a sheet.
const TITLE: u32 = 24;
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
        self.svg_at(0)
    }

    /// Its width and height, in pixels.
    fn extent(&self) -> (u32, u32) {
        let rows = u32::try_from(self.rows.len()).unwrap_or(0);
        let legend = if self.marks().is_empty() { 0 } else { 20 };
        (LEFT + self.units * UNIT + GAP, GAP + 14 + rows * (HEIGHT + GAP) + legend)
    }

    /// The picture as an SVG element that stands so far below the top of what it is in.
    fn svg_at(&self, y: u32) -> String {
        let ((width, height), marks) = (self.extent(), self.marks());
        let mut svg = opened(y, width, height);
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

/// Several pictures below each other, each under its title, as one SVG element.
#[must_use]
pub fn sheet(pictures: &[(String, &Picture)]) -> String {
    let extents = || pictures.iter().map(|(_, picture)| picture.extent());
    let titles = pictures.iter().map(|(title, _)| columns(title) * CHARACTER + 2 * GAP);
    let width = extents().map(|(width, _)| width).chain(titles).max().unwrap_or(GAP);
    let height = extents().map(|(_, height)| TITLE + height).sum::<u32>().max(GAP);
    let mut svg = opened(0, width, height);
    let mut top = 0;
    for (title, picture) in pictures {
        svg.push_str(&words(GAP, top + TITLE - 6, "#1f2328", title));
        top += TITLE;
        svg.push_str(&picture.svg_at(top));
        top += picture.extent().1;
    }
    svg.push_str("</svg>\n");
    svg
}

fn columns(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX / (2 * CHARACTER))
}

/// The beginning of an SVG element with its ground.
fn opened(y: u32, width: u32, height: u32) -> String {
    let place = if y > 0 { format!(" y=\"{y}\"") } else { String::new() };
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\"{place} width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"monospace\" font-size=\"12\" \
         role=\"img\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    )
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
