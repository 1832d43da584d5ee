# Machines ask for no more memory and processors than the host has, times a factor.
#
# `params.memory` (1 when not given) and `params.cpus` (4) are the factors; `params.memoryKib` and
# `params.hostCpus` say what the host has where it is not known by itself. Machines that are off do
# not count; machines of others that run do.
package trueup.overcommit

level := "soft"

params := object.get(input, ["params", "trueup.overcommit"], {})

memory_factor := object.get(params, "memory", 1)

cpu_factor := object.get(params, "cpus", 4)

memory_kib := object.get(params, "memoryKib", object.get(input, ["host", "memoryKib"], null))

host_cpus := object.get(params, "hostCpus", object.get(input, ["host", "cpus"], null))

deny contains {"msg": msg} if {
	is_number(memory_kib)
	asked := sum([vm.memory.max | some vm in running])
	asked > memory_kib * memory_factor
	msg := sprintf(
		"machines ask for %d MiB of memory; the host has %d MiB, and %v times that is the limit",
		[floor(asked / 1024), floor(memory_kib / 1024), memory_factor],
	)
}

deny contains {"msg": msg} if {
	is_number(host_cpus)
	asked := sum([vm.cpus.max | some vm in running])
	asked > host_cpus * cpu_factor
	msg := sprintf(
		"machines ask for %d processors; the host has %d, and %v times that is the limit",
		[asked, host_cpus, cpu_factor],
	)
}

# One machine alone is larger than the host: no factor helps it.
deny contains {"msg": msg, "resource": id, "field": "/spec/memory"} if {
	is_number(memory_kib)
	some id, vm in wanted
	vm.memory.max > memory_kib
	msg := sprintf(
		"it asks for %d MiB of memory, more than the %d MiB the host has",
		[floor(vm.memory.max / 1024), floor(memory_kib / 1024)],
	)
}

wanted[id] := resource.spec if {
	some id, resource in input.desired.resources
	resource.kind == "virtualMachine"
	resource.spec.power != "off"
}

running[id] := vm if some id, vm in wanted

running[id] := seen.config.spec if {
	some id, seen in input.observed.resources
	seen.config.kind == "virtualMachine"
	seen.active
	not input.desired.resources[id]
	not going[id]
}

# What the plan takes away makes room.
going contains step.resource if {
	some step in input.plan.steps
	step.action.type == "vmUndefine"
}
