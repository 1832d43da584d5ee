# No machine sits on a bridge of the host, open to what is behind it, unless the bridge is allowed.
#
# `params.allow` lists the bridges (`br0`, patterns with `*`).
package trueup.bridges

params := object.get(input, ["params", "trueup.bridges"], {})

deny contains {"msg": msg, "resource": id, "field": "/spec/bridge"} if {
	some id, resource in input.desired.resources
	resource.kind == "network"
	resource.spec.mode == "bridge"
	bridge := resource.spec.bridge
	not allowed(bridge)
	msg := sprintf("bridge `%s` of the host is not in the list of allowed bridges", [bridge])
}

deny contains {"msg": msg, "resource": id, "field": "/spec/nics"} if {
	some id, resource in input.desired.resources
	resource.kind == "virtualMachine"
	some nic in resource.spec.nics
	nic.source.type == "bridge"
	bridge := nic.source.value
	not allowed(bridge)
	msg := sprintf("an interface is on bridge `%s` of the host, which is not allowed", [bridge])
}

allowed(bridge) if {
	some pattern in object.get(params, "allow", [])
	glob.match(pattern, [], bridge)
}
