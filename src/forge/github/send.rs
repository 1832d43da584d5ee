//! What is sent to GitHub, cut to what it takes.
//!
//! The limits are applied on every path: a text that is too long is refused as a whole.

use serde_json::{Value, json};

use crate::forge::text::{fit, heading};
use crate::model::CommitId;
use crate::port::forge::{
    Annotation, CheckReport, CheckState, CommitState, Conclusion, IssueChange, Level, Status,
};

pub(super) fn status(status: &Status) -> Value {
    let state = match status.state {
        CommitState::Pending => "pending",
        CommitState::Success => "success",
        CommitState::Failure => "failure",
        CommitState::Error => "error",
    };
    let mut body = json!({
        "state": state, "context": status.context, "description": status.cut_description(),
    });
    if let Some(url) = &status.url {
        body["target_url"] = json!(url);
    }
    body
}

/// A check's body; with `commit` for a new one.
pub(super) fn check(report: &CheckReport, commit: Option<&CommitId>) -> Value {
    let annotations: Vec<Value> =
        report.annotations.iter().take(Annotation::BATCH_MAX).map(annotation).collect();
    let mut output = json!({
        "title": fit(&report.title, CheckReport::TEXT_BYTES_MAX),
        "summary": fit(&report.summary, CheckReport::TEXT_BYTES_MAX),
        "annotations": annotations,
    });
    if let Some(text) = &report.text {
        output["text"] = json!(fit(text, CheckReport::TEXT_BYTES_MAX));
    }
    let mut body = json!({
        "name": report.name, "external_id": report.external_id, "output": output,
    });
    match report.state {
        CheckState::InProgress => body["status"] = json!("in_progress"),
        CheckState::Completed(conclusion) => {
            body["status"] = json!("completed");
            body["conclusion"] = json!(word(conclusion));
        }
    }
    if let Some(commit) = commit {
        body["head_sha"] = json!(commit);
    }
    if let Some(url) = &report.url {
        body["details_url"] = json!(url);
    }
    body
}

fn word(conclusion: Conclusion) -> &'static str {
    match conclusion {
        Conclusion::Success => "success",
        Conclusion::Failure => "failure",
        Conclusion::Neutral => "neutral",
        Conclusion::ActionRequired => "action_required",
        Conclusion::Cancelled => "cancelled",
    }
}

fn annotation(annotation: &Annotation) -> Value {
    let level = match annotation.level {
        Level::Failure => "failure",
        Level::Warning => "warning",
        Level::Notice => "notice",
    };
    let (start, end) = (annotation.start_line, annotation.end_line.max(annotation.start_line));
    let mut body = json!({
        "path": annotation.path,
        "start_line": start,
        "end_line": end,
        "annotation_level": level,
        "message": fit(&annotation.message, Annotation::MESSAGE_BYTES_MAX),
    });
    if let Some(title) = &annotation.title {
        body["title"] = json!(heading(title));
    }
    // GitHub takes columns for a single line only.
    if let (Some((first, last)), true) = (annotation.columns, start == end) {
        body["start_column"] = json!(first);
        body["end_column"] = json!(last);
    }
    body
}

pub(super) fn issue(change: &IssueChange) -> Value {
    let mut body = json!({});
    if let Some(title) = &change.title {
        body["title"] = json!(title);
    }
    if let Some(text) = &change.body {
        body["body"] = json!(text);
    }
    if let Some(open) = change.open {
        body["state"] = json!(if open { "open" } else { "closed" });
    }
    body
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn columns_go_with_a_single_line_only() {
        let line = |n| NonZeroU32::new(n).unwrap();
        let mut remark = Annotation {
            level: Level::Warning,
            path: "environments/lab/web.yaml".into(),
            start_line: line(3),
            end_line: line(3),
            columns: Some((5, 9)),
            message: "m".repeat(Annotation::MESSAGE_BYTES_MAX + 1),
            title: Some("t".repeat(300)),
        };
        let sent = annotation(&remark);
        assert_eq!((&sent["start_column"], &sent["end_column"]), (&json!(5), &json!(9)));
        assert_eq!(sent["message"].as_str().unwrap().len(), Annotation::MESSAGE_BYTES_MAX);
        assert_eq!(sent["title"].as_str().unwrap().len(), Annotation::TITLE_CHARS_MAX);
        remark.end_line = line(4);
        assert!(annotation(&remark).get("start_column").is_none());
    }
}
