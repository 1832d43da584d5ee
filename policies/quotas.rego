# Machines and disks that share a label stay within its quota.
#
# Off until `params.quotas` lists some: each has a `label`, perhaps a `value` (else every value has
# the quota for itself), and limits: `vms`, `cpus`, `memoryGib`, `diskGib`.
package trueup.quotas

params := object.get(input, ["params", "trueup.quotas"], {})

deny contains {"msg": msg} if {
	some quota in object.get(params, "quotas", [])
	some value in values(quota)
	some what, limit in limits(quota)
	used := use(quota.label, value)[what]
	used > limit
	msg := sprintf(
		"%s=%s uses %v of %s; its quota is %v",
		[quota.label, value, used, names[what], limit],
	)
}

names := {"vms": "machines", "cpus": "processors", "memoryGib": "GiB of memory", "diskGib": "GiB of disks"}

limits(quota) := {what: quota[what] | some what in object.keys(names); quota[what]}

values(quota) := {quota.value} if quota.value

values(quota) := {resource.labels[quota.label] | some resource in input.desired.resources} if not quota.value

use(label, value) := {
	"vms": count(machines),
	"cpus": sum([vm.cpus.max | some vm in machines]),
	"memoryGib": sum([vm.memory.max | some vm in machines]) / 1048576,
	"diskGib": sum([disk.size | some disk in disks]) / 1073741824,
} if {
	machines := [resource.spec |
		some resource in input.desired.resources
		resource.kind == "virtualMachine"
		resource.labels[label] == value
	]
	disks := [resource.spec |
		some resource in input.desired.resources
		resource.kind == "disk"
		resource.labels[label] == value
	]
}
