package trueup.gpus_test

import data.trueup.gpus

claim(device, owner, desired) := {
	"device": device,
	"owner": owner,
	"desired": desired,
	"field": "/spec/hostDevices",
}

denied(claims) := gpus.deny with input as {"gpus": claims}

test_a_device_each_is_fine if {
	count(denied([claim("0000:65:00.0", "vm/a", true), claim("0000:66:00.0", "vm/b", true)])) == 0
}

test_two_owners_of_one_device_are_both_named if {
	findings := denied([claim("0000:65:00.0", "vm/a", true), claim("0000:65:00.0", "vm/b", true)])
	{finding.resource | some finding in findings} == {"vm/a", "vm/b"}
	every finding in findings {
		finding.field == "/spec/hostDevices"
	}
}

test_what_runs_beside_the_wish_counts if {
	findings := denied([claim("0000:65:00.0", "vm/a", true), claim("0000:65:00.0", "vm/old", false)])
	count(findings) == 1
	some finding in findings
	finding.resource == "vm/a"
	contains(finding.msg, "vm/old")
}

test_what_nobody_asks_for_is_not_ours_to_judge if {
	count(denied([claim("0000:65:00.0", "vm/x", false), claim("0000:65:00.0", "vm/y", false)])) == 0
}

test_one_machine_asking_twice_is_found if {
	count(denied([claim("0000:65:00.0", "vm/a", true), claim("0000:65:00.0", "vm/a", true)])) == 1
}
