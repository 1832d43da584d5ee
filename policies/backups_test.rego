package trueup.backups_test

import data.trueup.backups

now := 1000000

plan(disruption) := {"steps": [{"resource": "disk/db", "disruption": disruption}]}

labelled(labels) := {"resources": {"disk/db": {"labels": labels}}}

backup(age) := {"resource": "disk/db", "takenUnix": now - age, "verifiedUnix": (now - age) + 60}

denied(plan_, desired, backups_, params) := backups.deny with input as {
	"plan": plan_,
	"desired": desired,
	"backups": backups_,
	"nowUnix": now,
	"params": {"trueup.backups": params},
}

required := labelled({"backup": "required"})

test_a_disk_that_needs_no_backup_may_go if {
	count(denied(plan("destroy"), labelled({}), [], {})) == 0
}

test_a_required_backup_is_missing if {
	some finding in denied(plan("replace"), required, [], {})
	finding.resource == "disk/db"
	contains(finding.msg, "younger than 24h")
}

test_a_young_backup_is_enough if {
	count(denied(plan("replace"), required, [backup(3600)], {})) == 0
}

test_an_old_backup_is_not_enough if {
	count(denied(plan("replace"), required, [backup(90000)], {})) == 1
}

test_the_rpo_is_the_labels_first if {
	labels := labelled({"backup": "required", "rpo": "30m"})
	count(denied(plan("replace"), labels, [backup(3600)], {"rpo": "7d"})) == 1
	count(denied(plan("replace"), required, [backup(90000)], {"rpo": "7d"})) == 0
}

test_a_backup_that_was_not_verified_does_not_count if {
	unverified := {"resource": "disk/db", "takenUnix": now - 60, "verifiedUnix": 0}
	count(denied(plan("replace"), required, [unverified], {})) == 1
}

test_a_backup_from_the_future_does_not_count if {
	count(denied(plan("replace"), required, [backup(-3600)], {})) == 1
}

test_a_disk_gone_from_the_commit_is_known_by_pattern if {
	gone := {"resources": {}}
	count(denied(plan("destroy"), gone, [], {"required": ["disk/d*"]})) == 1
	count(denied(plan("destroy"), gone, [], {"required": ["disk/x*"]})) == 0
}

test_the_label_there_was_before_binds_too if {
	findings := backups.deny with input as {
		"plan": plan("destroy"),
		"desired": {"resources": {}},
		"before": required,
		"backups": [],
		"nowUnix": now,
	}
	count(findings) == 1
}

test_growing_a_disk_needs_no_backup if {
	count(denied(plan("live"), required, [], {})) == 0
}

test_without_a_plan_nothing_is_destroyed if {
	findings := backups.deny with input as {"desired": required, "nowUnix": now}
	count(findings) == 0
}
