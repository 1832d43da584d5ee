//! Commands and webhooks by example, hostile ones among them.

use hmac::{Hmac, Mac as _};
use proptest::prelude::*;
use sha2::Sha256;

use super::webhook::*;
use super::*;

const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn approve() -> Command {
    Command::Approve { digest: DIGEST.parse().unwrap() }
}

#[track_caller]
fn check(body: &str, commands: &[Command]) {
    let spoken = read_comment(&body.replace("{D}", DIGEST));
    assert_eq!((spoken.commands.as_slice(), spoken.mistakes.len()), (commands, 0), "{body}");
}

#[test]
fn commands_stand_alone() {
    check("/trueup approve {D}", &[approve()]);
    check(
        "Looks good.\r\n\r\n/trueup approve {D}\r\n/trueup plan\r\n",
        &[approve(), Command::Plan],
    );
    check("  /trueup   plan  ", &[Command::Plan]);
    check("please /trueup plan", &[]);
    check("text\n/trueup plan", &[]);
    check("/trueupplan", &[]);
    check("/trueup plan\nsome words\n/trueup plan", &[Command::Plan]);
}

#[test]
fn quoted_coded_and_hidden_lines_are_no_commands() {
    for body in [
        "> /trueup approve {D}",
        "> quoted\n/trueup approve {D}",
        "    /trueup approve {D}",
        "\t/trueup approve {D}",
        "- /trueup approve {D}",
        "`/trueup approve {D}`",
        "```\n/trueup approve {D}\n```",
        "```\n\n/trueup approve {D}\n\n```",
        "````\n```\n\n/trueup approve {D}\n````",
        "~~~ text\n\n/trueup approve {D}",
        "<!--\n\n/trueup approve {D}\n\n-->",
        "<!-- a --> <!--\n\n/trueup approve {D}",
        "<pre>\n\n/trueup approve {D}\n\n</pre>",
        "text <code>\n\n/trueup approve {D}\n\n</code>",
    ] {
        check(body, &[]);
    }
    check("```\ncode\n```\n/trueup plan", &[Command::Plan]);
    check("<!-- note -->\n\n/trueup plan", &[Command::Plan]);
}

#[test]
fn mistakes_are_told_and_not_guessed() {
    for (body, part) in [
        ("/trueup approve 0123456789ab", "64"),
        ("/trueup approve", "name the digest"),
        ("/trueup withdraw", "/trueup withdraw <digest>"),
        ("/trueup withdraw 0123456789ab", "64"),
        ("/trueup apply", "the commands are"),
        ("/trueup", "the commands are"),
        (&format!("/trueup approve {}", DIGEST.to_uppercase()), "64"),
        (&format!("/trueup approve {DIGEST} now"), "the commands are"),
    ] {
        let spoken = read_comment(body);
        assert!(spoken.commands.is_empty(), "{body}");
        assert!(spoken.mistakes[0].hint.contains(part), "{body}: {:?}", spoken.mistakes);
    }
    let many = read_comment(&"/trueup plan\n".repeat(50));
    assert_eq!((many.commands.len(), many.mistakes.len()), (COMMANDS_MAX, 1));
}

fn signed(secret: &[u8], body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[test]
fn signatures_hold_for_one_body_and_one_secret() {
    // The example of GitHub's own documentation, "Validating webhook deliveries".
    let documented = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let secret = b"It's a Secret to Everybody";
    assert_eq!(verify_signature(secret, Some(documented), b"Hello, World!"), Ok(()));
    assert_eq!(verify_signature(secret, Some(&documented[7..]), b"Hello, World!"), Ok(()));
    let wrong = |secret: &[u8], header: Option<&str>, body: &[u8]| {
        verify_signature(secret, header, body).unwrap_err()
    };
    assert_eq!(wrong(secret, Some(documented), b"Hello, World?"), WebhookError::Forged);
    assert_eq!(wrong(b"other", Some(documented), b"Hello, World!"), WebhookError::Forged);
    assert_eq!(wrong(b"", Some(&signed(b"", b"x")), b"x"), WebhookError::Forged);
    assert_eq!(wrong(secret, None, b"x"), WebhookError::Unsigned);
    for header in ["", "sha1=aa", "sha256=", "sha256=zz", &documented[..70]] {
        assert_eq!(wrong(secret, Some(header), b"x"), WebhookError::Unsigned, "{header}");
    }
}

#[test]
fn lengths_are_judged_before_reading() {
    assert_eq!(may_read(Some(10)), Ok(10));
    assert_eq!(may_read(None), Err(WebhookError::TooLong));
    assert_eq!(may_read(Some(WEBHOOK_BYTES_MAX as u64 + 1)), Err(WebhookError::TooLong));
    let long = vec![b' '; WEBHOOK_BYTES_MAX + 1];
    assert_eq!(read_webhook("push", &long), Err(WebhookError::TooLong));
}

#[test]
fn the_fields_needed_are_found_and_odd_ones_are_nothing() {
    let sha = "0123456789012345678901234567890123456789";
    let body = serde_json::json!({
        "action": "synchronize", "number": 7,
        "pull_request": { "number": 7, "head": { "sha": sha } },
        "repository": { "full_name": "o/r" },
    });
    let hint = read_webhook("pull_request", body.to_string().as_bytes()).unwrap();
    let head = Some(sha.parse().unwrap());
    let what = Hinted::Pull { number: 7, action: "synchronize".into(), head };
    assert_eq!(hint, Hint { repository: "o/r".into(), what });
    for (event, body) in [
        ("push", r#"{"ref":7}"#),
        ("pull_request", r#"{"pull_request":"x","number":-1}"#),
        ("issue_comment", r#"{"issue":null,"comment":[]}"#),
        ("ping", "{}"),
    ] {
        assert_eq!(read_webhook(event, body.as_bytes()).unwrap().what, Hinted::Other, "{event}");
    }
    assert_eq!(read_webhook("push", b"[]"), Err(WebhookError::Malformed));
    assert_eq!(read_webhook("push", b"{"), Err(WebhookError::Malformed));
    let deep = "[".repeat(100_000);
    assert_eq!(read_webhook("push", deep.as_bytes()), Err(WebhookError::Malformed));
}

proptest! {
    #[test]
    fn no_comment_and_no_webhook_panics(text in "(?s).{0,400}", event in "[a-z_]{0,12}") {
        let spoken = read_comment(&text);
        prop_assert!(spoken.commands.len() <= COMMANDS_MAX);
        read_webhook(&event, text.as_bytes()).ok();
        verify_signature(b"s", Some(&text), text.as_bytes()).ok();
    }

    #[test]
    fn whatever_is_fenced_is_no_command(before in "[a-z \n]{0,40}", inside in "[a-z >\n-]{0,60}") {
        let body = format!("{before}\n\n`````\n{inside}\n\n/trueup plan\n`````\n");
        prop_assert!(read_comment(&body).commands.is_empty());
    }
}
