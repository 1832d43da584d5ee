package trueup.overcommit_test

import data.trueup.overcommit

gib := 1048576

vm(memory, cpus, power) := {
	"kind": "virtualMachine",
	"spec": {"memory": {"max": memory}, "cpus": {"max": cpus}, "power": power},
}

denied(resources, host, params) := overcommit.deny with input as {
	"desired": {"resources": resources},
	"host": host,
	"params": {"trueup.overcommit": params},
}

host := {"memoryKib": 8 * gib, "cpus": 4}

test_what_fits_is_fine if {
	count(denied({"vm/a": vm(4 * gib, 8, "running"), "vm/b": vm(4 * gib, 8, "running")}, host, {})) == 0
}

test_too_much_memory_is_said if {
	some finding in denied({"vm/a": vm(5 * gib, 1, "running"), "vm/b": vm(4 * gib, 1, "running")}, host, {})
	finding.msg == "machines ask for 9216 MiB of memory; the host has 8192 MiB, and 1 times that is the limit"
}

test_too_many_processors_are_said if {
	count(denied({"vm/a": vm(gib, 17, "running")}, host, {})) == 1
	count(denied({"vm/a": vm(gib, 17, "running")}, host, {"cpus": 8})) == 0
}

test_a_machine_larger_than_the_host_is_named if {
	findings := denied({"vm/a": vm(9 * gib, 1, "running")}, host, {"memory": 2})
	some finding in findings
	finding.resource == "vm/a"
	count(findings) == 1
}

test_machines_that_are_off_do_not_count if {
	count(denied({"vm/a": vm(64 * gib, 64, "off")}, host, {})) == 0
}

test_an_unknown_host_is_not_judged if {
	count(denied({"vm/a": vm(64 * gib, 64, "running")}, {"name": "x"}, {})) == 0
	count(denied({"vm/a": vm(64 * gib, 1, "running")}, {"name": "x"}, {"memoryKib": gib})) == 2
}

seen(memory) := {"active": true, "config": vm(memory, 1, "running")}

test_what_runs_beside_counts_until_it_goes if {
	base := {
		"desired": {"resources": {"vm/a": vm(4 * gib, 1, "running")}},
		"observed": {"resources": {"vm/a": seen(4 * gib), "vm/old": seen(6 * gib)}},
		"host": host,
	}
	full := overcommit.deny with input as base
	count(full) == 1
	plan := {"steps": [{"resource": "vm/old", "action": {"type": "vmUndefine"}}]}
	freed := overcommit.deny with input as object.union(base, {"plan": plan})
	count(freed) == 0
}
