//! What people see: lines and tables with labelled texts, as terminal text or as Markdown.
//!
//! Pure: a label says what a text means and never stands for the text, so that everything can be
//! read without colour.

use anstyle::{AnsiColor, Style};
use comfy_table::{Cell, ContentArrangement, Table, presets};

/// What a text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Label {
    /// Nothing special.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// On the way.
    Busy,
    /// Somebody should look.
    Warn,
    /// Wrong.
    Bad,
    /// Beside the point.
    Dim,
    /// A heading.
    Strong,
}

/// A text with its meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The text.
    pub text: String,
    /// Its meaning.
    pub label: Label,
}

impl Text {
    /// A text of that meaning.
    pub fn new(text: impl Into<String>, label: Label) -> Self {
        Self { text: text.into(), label }
    }
}

impl<T: Into<String>> From<T> for Text {
    fn from(text: T) -> Self {
        Self::new(text, Label::Plain)
    }
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// One line of texts, put together as they are.
    Line(Vec<Text>),
    /// A table.
    Table {
        /// The names of its columns.
        header: Vec<&'static str>,
        /// Its rows, each as long as the header.
        rows: Vec<Vec<Text>>,
    },
    /// Lines whose columns matter, such as a picture; shown as they are.
    Picture(String),
    /// An empty line.
    Gap,
}

impl Block {
    /// A line of one plain text.
    pub fn line(text: impl Into<String>) -> Self {
        Self::Line(vec![Text::from(text.into())])
    }
}

/// Takes control characters (escape sequences among them) out of a text that may come from a
/// repository or a peer. Tabs and line ends stay.
#[must_use]
pub fn clean(text: &str) -> String {
    let safe = |c: char| match c {
        '\n' | '\t' => c,
        // Bidirectional controls make a text look like another one.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(safe).collect()
}

/// A text in the style of its label.
#[must_use]
pub fn label(text: &str, label: Label, color: bool) -> String {
    let style = match label {
        Label::Plain => Style::new(),
        Label::Good => AnsiColor::Green.on_default(),
        Label::Busy => AnsiColor::Cyan.on_default(),
        Label::Warn => AnsiColor::Yellow.on_default().bold(),
        Label::Bad => AnsiColor::Red.on_default().bold(),
        Label::Dim => Style::new().dimmed(),
        Label::Strong => Style::new().bold(),
    };
    if color && label != Label::Plain { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

/// The blocks as text for a terminal.
#[must_use]
pub fn text(blocks: &[Block], color: bool) -> String {
    let mut out = String::new();
    for block in blocks {
        match block {
            Block::Gap => {}
            Block::Line(texts) => {
                for piece in texts {
                    out.push_str(&label(&clean(&piece.text), piece.label, color));
                }
            }
            Block::Table { header, rows } => out.push_str(&table(header, rows, color)),
            Block::Picture(lines) => out.push_str(clean(lines).trim_end_matches('\n')),
        }
        out.push('\n');
    }
    out
}

fn table(header: &[&str], rows: &[Vec<Text>], color: bool) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    let upper = header.iter().map(|name| Cell::new(name.to_uppercase()));
    table.set_header(upper.collect::<Vec<_>>());
    if color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    for row in rows {
        table.add_row(row.iter().map(|text| cell(text, color)).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

fn cell(text: &Text, color: bool) -> Cell {
    let cell = Cell::new(clean(&text.text).replace('\n', " "));
    let colour = match text.label {
        _ if !color => return cell,
        Label::Plain => return cell,
        Label::Good => comfy_table::Color::Green,
        Label::Busy => comfy_table::Color::Cyan,
        Label::Warn => comfy_table::Color::Yellow,
        Label::Bad => comfy_table::Color::Red,
        Label::Dim => comfy_table::Color::DarkGrey,
        Label::Strong => return cell.add_attribute(comfy_table::Attribute::Bold),
    };
    cell.fg(colour)
}

/// The blocks as Markdown.
#[must_use]
pub fn markdown(blocks: &[Block]) -> String {
    let mut out = String::new();
    for block in blocks {
        match block {
            Block::Gap => {}
            Block::Line(texts) => {
                let line: String = texts.iter().map(|text| text.text.as_str()).collect();
                out.push_str(&escape(&line));
            }
            Block::Picture(lines) => {
                // What comes from a machine must not end the fence.
                let lines = clean(lines).replace('`', "'");
                out.push_str(&format!("\n```text\n{}\n```\n", lines.trim_end_matches('\n')));
            }
            Block::Table { header, rows } => {
                out.push_str(&format!("\n| {} |\n", header.join(" | ")));
                out.push_str(&format!("|{}\n", " --- |".repeat(header.len())));
                for row in rows {
                    let cells: Vec<_> = row.iter().map(|text| escape(&text.text)).collect();
                    out.push_str(&format!("| {} |\n", cells.join(" | ")));
                }
            }
        }
        out.push('\n');
    }
    out
}

/// Text that Markdown shows as it is.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '\n' => out.push(' '),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '@' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn sample() -> Vec<Block> {
        vec![
            Block::line("lab at \u{1b}[31mabc"),
            Block::Table {
                header: vec!["resource", "status"],
                rows: vec![
                    vec!["vm/web".into(), Text::new("Synced", Label::Good)],
                    vec!["network/a|b".into(), Text::new("Failed", Label::Bad)],
                ],
            },
        ]
    }

    #[test]
    fn plain_text_has_no_escapes_and_no_trailing_blanks() {
        let text = text(&sample(), false);
        assert!(!text.contains('\u{1b}'), "{text:?}");
        expect![[r#"
            lab at �[31mabc
            RESOURCE     STATUS
            vm/web       Synced
            network/a|b  Failed
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn colour_adds_only_what_a_label_means() {
        let coloured = text(&sample(), true);
        assert!(coloured.contains("\u{1b}["));
        assert!(!coloured.contains("\u{1b}[31mabc"), "an escape of the input survived");
    }

    #[test]
    fn markdown_shows_hostile_text_as_text() {
        expect![[r#"
            lab at �\[31mabc

            | resource | status |
            | --- | --- |
            | vm/web | Synced |
            | network/a\|b | Failed |

        "#]]
        .assert_eq(&markdown(&sample()));
    }

    #[test]
    fn a_picture_keeps_its_columns_and_cannot_end_its_fence() {
        let blocks = [Block::Picture("| a  |\n| ``` |\n".to_owned())];
        assert_eq!(text(&blocks, true), "| a  |\n| ``` |\n");
        assert_eq!(markdown(&blocks), "\n```text\n| a  |\n| ''' |\n```\n\n");
    }

    #[test]
    fn texts_that_turn_the_reading_order_around_are_disarmed() {
        assert_eq!(clean("a\u{202e}b\r"), "a\u{fffd}b\u{fffd}");
    }
}
