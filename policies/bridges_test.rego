package trueup.bridges_test

import data.trueup.bridges

denied(resources, params) := bridges.deny with input as {
	"desired": {"resources": resources},
	"params": {"trueup.bridges": params},
}

network(mode) := {"network/dmz": {"kind": "network", "spec": {"mode": mode, "bridge": "br0"}}}

machine(source) := {"vm/web": {"kind": "virtualMachine", "spec": {"nics": [{"source": source}]}}}

test_a_network_of_our_own_is_no_public_bridge if {
	count(denied(network("nat"), {})) == 0
}

test_a_bridge_of_the_host_has_to_be_allowed if {
	some finding in denied(network("bridge"), {})
	finding.resource == "network/dmz"
	finding.field == "/spec/bridge"
}

test_an_allowed_bridge_is_fine if {
	count(denied(network("bridge"), {"allow": ["br0"]})) == 0
	count(denied(network("bridge"), {"allow": ["br*"]})) == 0
	count(denied(network("bridge"), {"allow": ["br1"]})) == 1
}

test_an_interface_on_a_bridge_is_judged_like_a_network if {
	count(denied(machine({"type": "bridge", "value": "br0"}), {})) == 1
	count(denied(machine({"type": "bridge", "value": "br0"}), {"allow": ["br0"]})) == 0
	count(denied(machine({"type": "network", "value": "lan"}), {})) == 0
	count(denied(machine({"type": "user"}), {})) == 0
}
