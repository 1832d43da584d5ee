//! The checks: facts to findings, pure. Each says something only of what is there.

mod gpu;
mod host;
mod owners;
mod passthrough;
mod vgpu;
mod vm;

use super::facts::Facts;
use super::finding::Finding;

pub(super) use owners::known_processes;

/// All findings, the worst first, then in the order of the manual.
#[must_use]
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    host::check(facts, &mut found);
    vm::check(facts, &mut found);
    gpu::check(facts, &mut found);
    // Of GPUs nothing more is said where there is none.
    if facts.gpus().next().is_some() {
        owners::check(facts, &mut found);
        passthrough::check(facts, &mut found);
        vgpu::check(facts, &mut found);
    }
    found.sort_by(|a, b| (b.severity, a.id, &a.subject).cmp(&(a.severity, b.id, &b.subject)));
    found
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests;
