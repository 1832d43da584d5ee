//! What a plan is, by example: one machine, one change, one transcript.

use expect_test::{Expect, expect};

use super::fixture::*;

#[track_caller]
fn shows(machine: &Machine, expected: Expect) {
    expected.assert_eq(&machine.shown());
}

#[test]
fn everything_is_made_in_order_from_nothing() {
    shows(&web(), expect![[""]]);
}

#[test]
fn nothing_is_done_twice() {
    shows(&converged(), expect![[""]]);
}

#[test]
fn memory_within_the_maximum_changes_live() {
    let mut machine = converged();
    machine.edit_vm("vm/web", |vm| vm.memory.current = 2 * GIB);
    shows(&machine, expect![[""]]);
}

#[test]
fn more_memory_than_the_maximum_restarts_and_destroys_nothing() {
    let mut machine = converged();
    machine.edit_vm("vm/web", |vm| vm.memory.max = 4 * GIB);
    shows(&machine, expect![[""]]);
}
