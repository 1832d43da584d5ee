# No disk is destroyed or made anew without a verified backup that is younger than its RPO.
#
# It binds where a backup is required: by the label `backup: required` on the disk, or, since a disk
# that is gone from the commit has no label any more, by `params.required`, a list of patterns over
# names (`disk/db-*`). The RPO is the label `rpo` (`6h`), else `params.rpo`, else 24 hours.
package trueup.backups

params := object.get(input, ["params", "trueup.backups"], {})

default_rpo := object.get(params, "rpo", "24h")

deny contains {"msg": msg, "resource": disk} if {
	some disk in destroyed
	required(disk)
	not backed_up(disk)
	msg := sprintf(
		"%s would lose its data, and has no verified backup younger than %s",
		[disk, rpo(disk)],
	)
}

destroyed contains step.resource if {
	some step in input.plan.steps
	startswith(step.resource, "disk/")
	step.disruption in {"replace", "destroy"}
}

required(disk) if label(disk, "backup", "") == "required"

required(disk) if {
	some pattern in object.get(params, "required", [])
	glob.match(pattern, ["/"], disk)
}

backed_up(disk) if {
	some backup in input.backups
	backup.resource == disk
	backup.verifiedUnix >= backup.takenUnix
	backup.takenUnix <= input.nowUnix
	input.nowUnix - backup.takenUnix <= seconds(rpo(disk))
}

rpo(disk) := label(disk, "rpo", default_rpo)

# The label in the commit, else the one there was before, else the default.
label(disk, name, otherwise) := object.get(
	input,
	["desired", "resources", disk, "labels", name],
	object.get(input, ["before", "resources", disk, "labels", name], otherwise),
)

seconds(text) := amount * unit if {
	amount := to_number(substring(text, 0, count(text) - 1))
	unit := {"s": 1, "m": 60, "h": 3600, "d": 86400}[substring(text, count(text) - 1, 1)]
}
