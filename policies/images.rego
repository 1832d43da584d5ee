# Images are pinned: what is fetched by its digest, and, where asked for, what is built by its archive.
#
# With `params.builds: snapshot` a built image has to come from an archive that never changes, one
# whose address holds a moment like 20260101T000000Z.
package trueup.images

params := object.get(input, ["params", "trueup.images"], {})

deny contains {"msg": "an image is fetched by its SHA-256 digest", "resource": id, "field": "/spec/sha256"} if {
	some id, resource in input.desired.resources
	resource.kind == "image"
	resource.spec.origin.type == "fetch"
	not regex.match(`^[0-9a-f]{64}$`, object.get(resource.spec.origin.value, "sha256", ""))
}

deny contains {"msg": msg, "resource": id, "field": "/spec/build/mirror"} if {
	object.get(params, "builds", "any") == "snapshot"
	some id, resource in input.desired.resources
	resource.kind == "image"
	resource.spec.origin.type == "build"
	not snapshot(resource.spec.origin.value)
	msg := "a built image comes from a snapshot archive here, so that it can be built again"
}

# A machine whose disk is a file of no resource runs what nobody pinned.
warn contains {"msg": msg, "resource": id, "field": "/spec/disks"} if {
	some id, resource in input.desired.resources
	resource.kind == "virtualMachine"
	some disk in resource.spec.disks
	disk.path
	not disk.path in known_files
	msg := sprintf("disk %s is a file that no resource of the environment describes", [disk.target])
}

known_files contains resource.spec.path if {
	some resource in input.desired.resources
	resource.kind in {"disk", "image", "seed"}
}

snapshot(build) if regex.match(`/[0-9]{8}T[0-9]{6}Z(/|$)`, build.mirror)
