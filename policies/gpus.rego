# No accelerator device, and no slice of one, is given to two owners.
package trueup.gpus

deny contains {"msg": msg, "resource": claim.owner, "field": claim.field} if {
	some claim in input.gpus
	claim.desired
	others := sort([other.owner | some other in input.gpus; other.device == claim.device; other.owner != claim.owner])
	count(others) > 0
	msg := sprintf(
		"device %s is claimed by %s and by %s: one owner a device or slice",
		[claim.device, claim.owner, concat(", ", others)],
	)
}

# The same machine asks for one device twice.
deny contains {"msg": msg, "resource": claim.owner, "field": claim.field} if {
	some place, claim in input.gpus
	claim.desired
	some later, other in input.gpus
	later > place
	other.device == claim.device
	other.owner == claim.owner
	msg := sprintf("device %s is claimed twice by %s", [claim.device, claim.owner])
}
