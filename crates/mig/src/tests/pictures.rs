//! Pictures: text by example, SVG by what must be in it.

use expect_test::expect;

use super::*;
use crate::picture::{Charset, Picture, sheet};

#[test]
fn before_and_after_as_text() {
    let board = a100();
    let observed = found(&board, "3g@0*=train 1g@4 1g@5");
    let plan = ready(&board, &observed, &wanted(&board, "3g=train 2g=infer"));
    let picture = Picture::of(&board, &observed, &plan);
    expect![[r#"
                0     1     2     3     4     5     6     7
        before │*3g train              │-1g  │-1g  │·····│·····│
        after  │*3g train              │+2g infer  │·····│·····│
                * in use   - destroyed   + created
    "#]]
    .assert_eq(&picture.text(Charset::Unicode));
    expect![[r#"
                0     1     2     3     4     5     6     7
        before |*3g train              |-1g  |-1g  |.....|.....|
        after  |*3g train              |+2g infer  |.....|.....|
                * in use   - destroyed   + created
    "#]]
    .assert_eq(&picture.text(Charset::Ascii));
}

#[test]
fn labels_that_do_not_fit_are_listed_below() {
    let board = whole("a30-24gb");
    let observed = found(&board, "1g@0=a-very-long-name 2g@2");
    expect![[r#"
             0       1       2       3
        now | 1g a-~|.......| 2g            |
             now 0: 1g a-very-long-name
    "#]]
    .assert_eq(&Picture::now(&board, &observed).text(Charset::Ascii));
}

#[test]
fn a_plan_without_steps_is_one_row() {
    let board = a100();
    let observed = found(&board, "7g@0");
    let plan = ready(&board, &observed, &wanted(&board, "7g"));
    assert_eq!(Picture::of(&board, &observed, &plan).rows.len(), 1);
}

#[test]
fn svg_is_well_formed_and_lets_no_markup_in() {
    let board = a100();
    let mut observed = found(&board, "3g@0");
    observed[0].name = Some("<script>&\"".to_owned());
    let plan = ready(&board, &observed, &wanted(&board, "1g"));
    let svg = Picture::of(&board, &observed, &plan).svg();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(!svg.contains("<script"), "{svg}");
    assert!(svg.contains("&lt;script&gt;&amp;&quot;"), "{svg}");
    assert_eq!(svg.matches("<title>").count(), 2);
    let opened = svg.matches("<rect").count();
    let closed = svg.matches("</rect>").count();
    assert_eq!(opened, closed + svg.matches("\"/>").count());
    assert_eq!(svg, Picture::of(&board, &observed, &plan).svg());
}

#[test]
fn a_sheet_has_every_picture_below_its_title() {
    let board = a100();
    let picture = Picture::now(&board, &found(&board, "3g@4"));
    let svg = sheet(&[("first <one>".to_owned(), &picture), ("second".to_owned(), &picture)]);
    assert_eq!(svg.matches("<svg ").count(), 3);
    assert_eq!(svg.matches("</svg>").count(), 3);
    assert!(svg.contains("first &lt;one&gt;") && svg.contains(" y=\"24\" "), "{svg}");
    let height = |svg: &str| -> u32 {
        let (_, rest) = svg.split_once("height=\"").unwrap();
        rest.split_once('"').unwrap().0.parse().unwrap()
    };
    assert_eq!(height(&svg), 2 * (24 + height(&picture.svg())));
    assert!(sheet(&[]).ends_with("</svg>\n"));
}
