package trueup.labels_test

import data.trueup.labels

denied(resources, params) := labels.deny with input as {
	"desired": {"resources": resources},
	"params": {"trueup.labels": params},
}

resource(given) := {"labels": given, "owner": null}

both := {"required": ["owner", "cost-centre"]}

test_it_is_off_without_parameters if {
	count(denied({"vm/web": resource({})}, {})) == 0
	count(labels.deny) == 0 with input as {"desired": {"resources": {"vm/web": resource({})}}}
}

test_every_missing_label_is_named if {
	findings := denied({"vm/web": resource({"owner": "ann"})}, both)
	{finding.msg | some finding in findings} == {"label `cost-centre` is missing"}
	count(denied({"vm/web": resource({})}, both)) == 2
}

test_an_empty_label_is_a_missing_one if {
	count(denied({"vm/web": resource({"owner": " ", "cost-centre": "7"})}, both)) == 1
}

test_all_labels_are_there if {
	count(denied({"vm/web": resource({"owner": "ann", "cost-centre": "7"})}, both)) == 0
}

test_only_the_kinds_asked_for_need_them if {
	count(denied({"network/lan": resource({})}, both)) == 0
	count(denied({"network/lan": resource({})}, object.union(both, {"kinds": ["network"]}))) == 2
}

test_what_is_brought_along_needs_none if {
	count(denied({"vm/web": {"labels": {}, "owner": "vm/other"}}, both)) == 0
}

test_values_match_their_pattern if {
	params := {"values": {"cost-centre": "^[0-9]{4}$"}}
	count(denied({"vm/web": resource({"cost-centre": "1234"})}, params)) == 0
	some finding in denied({"vm/web": resource({"cost-centre": "x"})}, params)
	finding.field == "/metadata/labels/cost-centre"
}
