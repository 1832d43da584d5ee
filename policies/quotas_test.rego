package trueup.quotas_test

import data.trueup.quotas

vm(team) := {
	"kind": "virtualMachine",
	"labels": {"team": team},
	"spec": {"cpus": {"max": 4}, "memory": {"max": 2097152}},
}

disk(team) := {"kind": "disk", "labels": {"team": team}, "spec": {"size": 10737418240}}

resources := {
	"vm/a": vm("red"),
	"vm/b": vm("red"),
	"vm/c": vm("blue"),
	"disk/a": disk("red"),
	"network/lan": {"kind": "network", "labels": {}, "spec": {}},
}

denied(list) := {finding.msg |
	some finding in quotas.deny with input as {
		"desired": {"resources": resources},
		"params": {"trueup.quotas": {"quotas": list}},
	}
}

test_it_is_off_without_quotas if count(denied([])) == 0

test_a_quota_that_holds_says_nothing if {
	count(denied([{"label": "team", "vms": 2, "cpus": 8, "memoryGib": 4, "diskGib": 10}])) == 0
}

test_each_value_has_the_quota_for_itself if {
	denied([{"label": "team", "vms": 1}]) == {"team=red uses 2 of machines; its quota is 1"}
}

test_a_quota_may_be_for_one_value if {
	count(denied([{"label": "team", "value": "blue", "vms": 1}])) == 0
	count(denied([{"label": "team", "value": "blue", "vms": 0}])) == 1
}

test_processors_memory_and_disks_are_counted if {
	denied([{"label": "team", "value": "red", "cpus": 7, "memoryGib": 3, "diskGib": 9}]) == {
		"team=red uses 8 of processors; its quota is 7",
		"team=red uses 4 of GiB of memory; its quota is 3",
		"team=red uses 10 of GiB of disks; its quota is 9",
	}
}
