# No disk is destroyed or made anew without a verified backup that is younger than its RPO.
#
# It binds where a backup is required: by the label `backup: required` on the disk; since a disk that is
# gone from the commit has no label any more, by `params.required`, a list of patterns over names
# (`disk/db-*`); and for every disk that a `Backup` saves, unless `params.covered` is false. The RPO is
# the label `rpo` (`6h`), else `params.rpo`, else that of the backup itself, else 24 hours.
#
# It also says which disks a commit would leave without a backup.
package trueup.backups

params := object.get(input, ["params", "trueup.backups"], {})

deny contains {"msg": msg, "resource": disk} if {
	some disk in destroyed
	required(disk)
	not backed_up(disk)
	msg := sprintf(
		"%s would lose its data, and has no verified backup younger than %s%s",
		[disk, rpo(disk), because(disk)],
	)
}

warn contains {"msg": msg, "resource": backup.resource} if {
	some backup in input.backups
	backup.resource != null
	not backup.kept
	object.get(input, ["desired", "resources", backup.resource], null) != null
	not kept(backup.resource)
	msg := sprintf("nothing saves %s for certain: %s goes, or saves something else or a part of it", [
		backup.resource,
		backup.backup,
	])
}

warn contains {"msg": msg, "resource": backup.backup} if {
	some backup in input.backups
	backup.resource == null
	not backup.kept
	msg := sprintf("%s goes: what it saved is not saved any more; its repository stays", [
		backup.backup,
	])
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

# Who has a disk saved wants its data.
required(disk) if {
	object.get(params, "covered", true) == true
	some backup in input.backups
	backup.resource == disk
}

backed_up(disk) if {
	some backup in input.backups
	backup.resource == disk
	backup.health in {"good", "unverified", "missed"}
	backup.takenUnix > 0
	backup.verifiedUnix >= backup.takenUnix
	backup.takenUnix <= input.nowUnix
	input.nowUnix - backup.takenUnix <= limit(disk, backup)
}

kept(disk) if {
	some backup in input.backups
	backup.resource == disk
	backup.kept
}

# What the rule asks of a disk; empty: only what its backup promises itself.
asked(disk) := label(disk, "rpo", object.get(params, "rpo", ""))

limit(disk, _) := seconds(asked(disk)) if asked(disk) != ""

limit(disk, backup) := promised(backup) if asked(disk) == ""

promised(backup) := backup.rpoS if is_number(object.get(backup, "rpoS", null))

promised(backup) := 86400 if not is_number(object.get(backup, "rpoS", null))

rpo(disk) := asked(disk) if asked(disk) != ""

rpo(disk) := "its RPO" if {
	asked(disk) == ""
	promises(disk)
}

rpo(disk) := "24h" if {
	asked(disk) == ""
	not promises(disk)
}

promises(disk) if {
	some backup in input.backups
	backup.resource == disk
	is_number(object.get(backup, "rpoS", null))
}

because(disk) := sprintf(": %s", [concat(", ", found)]) if {
	found := sort([it | some backup in input.backups; backup.resource == disk; it := stands(backup)])
	count(found) > 0
}

because(disk) := "" if not covered(disk)

covered(disk) if {
	some backup in input.backups
	backup.resource == disk
}

stands(backup) := sprintf("%s is %s", [backup.backup, backup.health]) if {
	backup.health in {"failed", "gone"}
}

stands(backup) := sprintf("%s was not verified yet", [backup.backup]) if {
	not backup.health in {"failed", "gone"}
	backup.takenUnix == 0
	backup.kept
}

# It goes, or has the file of a disk without the image that it lies on.
stands(backup) := sprintf("%s saves nothing of it for certain", [backup.backup]) if {
	not backup.health in {"failed", "gone"}
	backup.takenUnix == 0
	not backup.kept
}

stands(backup) := sprintf("%s is too old", [backup.backup]) if {
	not backup.health in {"failed", "gone"}
	backup.takenUnix != 0
}

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
