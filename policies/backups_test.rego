package trueup.backups_test

import data.trueup.backups

now := 1000000

plan(disruption) := {"steps": [{"resource": "disk/db", "disruption": disruption}]}

labelled(labels) := {"resources": {"disk/db": {"labels": labels}}}

backup(age) := {
	"resource": "disk/db",
	"backup": "backup/db",
	"health": "unverified",
	"kept": true,
	"takenUnix": now - age,
	"verifiedUnix": (now - age) + 60,
	"rpoS": null,
}

# The same with other fields.
but(age, changes) := object.union(backup(age), changes)

denied(plan_, desired, backups_, params) := findings if {
	findings := backups.deny with input as {
		"plan": plan_,
		"desired": desired,
		"backups": backups_,
		"nowUnix": now,
		"params": {"trueup.backups": params},
	}
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
	unverified := but(60, {"takenUnix": 0, "verifiedUnix": 0})
	some finding in denied(plan("replace"), required, [unverified], {})
	contains(finding.msg, "backup/db was not verified yet")
}

test_a_backup_of_a_part_does_not_count_and_is_said if {
	part := but(60, {"takenUnix": 0, "kept": false})
	some finding in denied(plan("destroy"), labelled({}), [part], {})
	contains(finding.msg, "backup/db saves nothing of it for certain")
	some said in left(labelled({}), [part])
	contains(said.msg, "or a part of it")
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

test_a_backup_that_failed_or_is_gone_does_not_count if {
	some health in ["failed", "gone"]
	some finding in denied(plan("destroy"), required, [but(60, {"health": health})], {})
	contains(finding.msg, sprintf("backup/db is %s", [health]))
}

test_each_bad_health_is_refused if {
	count({health |
		some health in ["failed", "gone"]
		count(denied(plan("destroy"), required, [but(60, {"health": health})], {})) == 1
	}) == 2
}

test_one_good_backup_of_two_is_enough if {
	two := [but(60, {"health": "failed"}), but(3600, {"backup": "backup/other"})]
	count(denied(plan("destroy"), required, two, {})) == 0
}

test_a_backup_of_another_disk_does_not_count if {
	other := but(60, {"resource": "disk/other"})
	count(denied(plan("destroy"), required, [other], {})) == 1
}

test_a_disk_that_is_saved_needs_its_backup_without_a_label if {
	failed := but(60, {"health": "failed"})
	count(denied(plan("destroy"), labelled({}), [failed], {})) == 1
	count(denied(plan("destroy"), labelled({}), [failed], {"covered": false})) == 0
	count(denied(plan("destroy"), {"resources": {}}, [failed], {})) == 1
	count(denied(plan("destroy"), labelled({}), [backup(60)], {})) == 0
}

test_without_another_the_backups_own_rpo_holds if {
	weekly := but(90000, {"rpoS": 604800})
	count(denied(plan("replace"), required, [weekly], {})) == 0
	hourly := but(7200, {"rpoS": 3600})
	some finding in denied(plan("replace"), required, [hourly], {})
	contains(finding.msg, "younger than its RPO: backup/db is too old")
	count(denied(plan("replace"), required, [weekly], {"rpo": "24h"})) == 1
}

left(desired, backups_) := findings if {
	findings := backups.warn with input as {
		"desired": desired,
		"backups": backups_,
		"nowUnix": now,
	}
}

test_what_a_commit_leaves_without_a_backup_is_said if {
	some finding in left(required, [but(60, {"kept": false})])
	finding.resource == "disk/db"
	contains(finding.msg, "backup/db goes")
}

test_what_another_backup_saves_is_not_left_alone if {
	two := [but(60, {"kept": false}), but(60, {"backup": "backup/other"})]
	count(left(required, two)) == 0
	count(left({"resources": {}}, [but(60, {"kept": false})])) == 0
	count(left(required, [backup(60)])) == 0
}

test_a_backup_of_files_that_goes_is_said if {
	some finding in left(required, [but(60, {"resource": null, "kept": false})])
	finding.resource == "backup/db"
	count(left(required, [but(60, {"resource": null})])) == 0
}
