//! The line's form: golden bytes, round trips and refusals.

use proptest::prelude::*;
use uuid::Uuid;

use super::super::chain::{Head, verify_line};
use super::super::envelope::Data;
use super::*;

fn full() -> Draft {
    Draft {
        type_: "step.started".into(),
        v: 2,
        subject: Some("vm/\"web\"".to_owned()),
        actor: "operator:älice".into(),
        cause: Some(3),
        run: Some(Uuid::from_u128(7)),
        commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
        data: Data::from_json(r#"{"a":1.50,"prev":"}"}"#.to_owned()).unwrap(),
    }
}

fn seal(draft: &Draft, head: &Head) -> (Vec<u8>, Head) {
    let mut out = Vec::new();
    let now = Timestamp::from_microsecond(1_795_229_871_000_042).unwrap();
    let head = head.seal_into(draft, now, &mut out).unwrap();
    assert_eq!(out.pop(), Some(b'\n'));
    (out, head)
}

#[test]
fn golden_lines() {
    let (line, head) = seal(&Draft::new("log.opened", 1, Data::empty()), &Head::EMPTY);
    expect_test::expect![[r#"{"seq":1,"at":"2026-11-21T02:57:51.000042Z","type":"log.opened","v":1,"actor":"trueup","data":{},"prev":"0000000000000000000000000000000000000000000000000000000000000000","hash":"ac83e5c2b784d7baf43364df17a042bf91611ab6bad43db715c45016f5e11910"}"#]]
        .assert_eq(std::str::from_utf8(&line).unwrap());
    let head = Head { seq: 9, ..head };
    let (line, _) = seal(&full(), &head);
    expect_test::expect![[r#"{"seq":10,"at":"2026-11-21T02:57:51.000043Z","type":"step.started","v":2,"subject":"vm/\"web\"","actor":"operator:älice","cause":3,"run":"00000000-0000-0000-0000-000000000007","commit":"0123456789abcdef0123456789abcdef01234567","data":{"a":1.50,"prev":"}"},"prev":"ac83e5c2b784d7baf43364df17a042bf91611ab6bad43db715c45016f5e11910","hash":"bfa327ee16a86ba1f70e3e147d0df31c5123fb79359155c4d8c777f3a7c254b1"}"#]].assert_eq(std::str::from_utf8(&line).unwrap());
}

#[test]
fn a_line_reads_back() {
    let head = Head { seq: 9, ..Head::EMPTY };
    let (line, after) = seal(&full(), &head);
    let record = verify_line(&line, &head).unwrap();
    let draft = full();
    assert_eq!((record.seq, record.hash, Some(record.at)), (10, after.hash, after.at));
    assert_eq!((record.type_, record.v, record.cause), ("step.started", 2, Some(3)));
    assert_eq!(record.subject.as_deref(), draft.subject.as_deref());
    assert_eq!(record.actor, draft.actor);
    assert_eq!(record.run.map(|run| Uuid::parse_str(run).unwrap()), draft.run);
    assert_eq!(record.commit, draft.commit.as_deref());
    assert_eq!(record.data, draft.data.as_str());
}

#[test]
fn every_flipped_bit_is_found() {
    let head = Head { seq: 9, ..Head::EMPTY };
    let (line, _) = seal(&full(), &head);
    for at in 0..line.len() {
        for bit in 0..8 {
            let mut bad = line.clone();
            bad[at] ^= 1 << bit;
            assert!(verify_line(&bad, &head).is_err(), "byte {at} bit {bit}");
        }
    }
    for length in 0..line.len() {
        assert!(verify_line(&line[..length], &head).is_err(), "cut at {length}");
    }
}

#[test]
fn a_line_out_of_place_is_found() {
    let head = Head { seq: 9, ..Head::EMPTY };
    let (line, _) = seal(&full(), &head);
    let seq = verify_line(&line, &Head { seq: 8, ..head }).unwrap_err();
    assert_eq!(seq, LineFault::Seq { expected: 9, found: 10 });
    let other = LineHash::of(&[b"other"]);
    let prev = verify_line(&line, &Head { hash: other, ..head }).unwrap_err();
    assert_eq!(prev, LineFault::Prev { expected: other, found: LineHash::ZERO });
    let late = verify_line(&line, &Head { at: Some(Timestamp::MAX), ..head }).unwrap_err();
    assert!(matches!(late, LineFault::Time { .. }));
}

#[track_caller]
fn refused(change: impl Fn(&mut Draft), member: &str) {
    let mut draft = full();
    change(&mut draft);
    let mut out = b"before".to_vec();
    let head = Head { seq: 9, ..Head::EMPTY };
    let error = head.seal_into(&draft, Timestamp::UNIX_EPOCH, &mut out).unwrap_err().to_string();
    assert!(error.contains(member), "{error}");
    assert_eq!(out, b"before", "a refused draft leaves nothing behind");
}

#[test]
fn drafts_outside_the_format_are_refused() {
    refused(|draft| draft.type_ = "started".into(), "type");
    refused(|draft| draft.type_ = "step.\"".into(), "type");
    refused(|draft| draft.type_ = "step..x".into(), "type");
    refused(|draft| draft.v = 0, "v");
    refused(|draft| draft.subject = Some(String::new()), "subject");
    refused(|draft| draft.subject = Some("a\nb".to_owned()), "subject");
    refused(|draft| draft.actor = "x".repeat(200).into(), "actor");
    refused(|draft| draft.cause = Some(10), "cause");
    refused(|draft| draft.commit = Some("ABC".to_owned()), "commit");
    let big = format!("{{\"x\":\"{}\"}}", "y".repeat(LINE_BYTES_MAX));
    refused(|draft| draft.data = Data::from_json(big.clone()).unwrap(), "by digest");
}

#[test]
fn data_is_one_object_on_one_line() {
    for bad in ["[]", "1", "{", "{\"a\":\n1}", " {}", "{} "] {
        assert!(Data::from_json(bad.to_owned()).is_err(), "{bad:?}");
    }
    assert!(Data::of(&[1, 2]).is_err());
    assert_eq!(Data::of(&serde_json::json!({"a": "x\ny"})).unwrap().as_str(), r#"{"a":"x\ny"}"#);
}

proptest! {
    #[test]
    fn times_read_back(micros in -62_167_219_200_000_000_i64..=253_402_207_200_999_999) {
        let at = Timestamp::from_microsecond(micros).unwrap();
        let mut text = String::new();
        PRINTER.print_timestamp(&at, &mut text).unwrap();
        prop_assert_eq!(parse_micros(text.as_bytes()), Some(micros));
    }

    #[test]
    fn times_agree_with_jiff(text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]\\.[0-9]{6}Z") {
        let jiff = text.parse::<Timestamp>().ok().map(|at| at.as_microsecond());
        prop_assert_eq!(parse_micros(text.as_bytes()), jiff);
    }

    #[test]
    fn any_text_reads_back(subject in "\\PC{1,40}", actor in "\\PC{1,20}", seq in 0_u64..u64::MAX - 1) {
        let head = Head { seq, ..Head::EMPTY };
        let draft = Draft::new("a.b", 1, Data::empty()).about(subject.clone()).by(actor.clone());
        prop_assume!(draft.check().is_ok());
        let (line, _) = seal(&draft, &head);
        let record = verify_line(&line, &head).unwrap();
        prop_assert_eq!(record.subject.as_deref(), Some(subject.as_str()));
        prop_assert_eq!(record.actor.as_ref(), actor.as_str());
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(parse(&bytes).is_err());
    }
}
