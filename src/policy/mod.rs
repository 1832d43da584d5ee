//! `policy`: rules in Rego over the plan, the wish and the fact, to verdicts.
//!
//! It reads no file, asks no network and no clock: rules and input are handed in, and what cannot
//! be evaluated is a verdict that holds, never a pass. Texts that may hold secrets are looked
//! through here and never reach a rule.

mod diagnostics;
mod evaluate;
mod input;
mod rules;
mod scan;
mod secrets;
mod shipped;
mod suite;
mod trouble;
mod verdict;

#[cfg(test)]
mod tests;

pub use diagnostics::diagnostics;
pub use evaluate::evaluate;
pub use input::{
    Backup, DesiredInput, GpuClaim, Host, Input, InputParts, ResourceInput, input_schema,
};
pub use rules::{FILES_MAX, RuleFile, RuleInfo, Rules, rule_files};
pub use secrets::SecretFinding;
pub use shipped::{SHIPPED_FOLDER, shipped};
pub use suite::{Outcome, TestReport, TestResult, test};
pub use verdict::{Exempted, RULE_FOLDER, VERDICTS_MAX, Verdict, Verdicts};
