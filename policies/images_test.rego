package trueup.images_test

import data.trueup.images

denied(resources, params) := images.deny with input as {
	"desired": {"resources": resources},
	"params": {"trueup.images": params},
}

fetched(value) := {"image/a": {"kind": "image", "spec": {"origin": {"type": "fetch", "value": value}}}}

built(value) := {"image/a": {"kind": "image", "spec": {"origin": {"type": "build", "value": value}}}}

digest := "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

test_a_digest_pins_an_image if {
	count(denied(fetched({"source": "https://x/a.img", "sha256": digest}), {})) == 0
}

test_an_image_without_a_digest_is_refused if {
	some finding in denied(fetched({"source": "https://x/a.img"}), {})
	finding.resource == "image/a"
	finding.field == "/spec/sha256"
	count(denied(fetched({"sha256": "latest"}), {})) == 1
}

test_builds_are_free_until_asked_for if {
	count(denied(built({"mirror": null}), {})) == 0
	count(denied(built({"mirror": null}), {"builds": "snapshot"})) == 1
}

test_a_snapshot_archive_pins_a_build if {
	mirror := "https://archive.example.org/debian/20260101T000000Z/"
	count(denied(built({"mirror": mirror}), {"builds": "snapshot"})) == 0
}

test_a_file_of_nobody_is_said if {
	resources := {
		"disk/a": {"kind": "disk", "spec": {"path": "/pool/a"}},
		"vm/web": {"kind": "virtualMachine", "spec": {"disks": [
			{"target": "vda", "path": "/pool/a"},
			{"target": "vdb", "path": "/home/me/b.img"},
			{"target": "sda", "path": null},
		]}},
	}
	findings := images.warn with input as {"desired": {"resources": resources}}
	{finding.msg | some finding in findings} ==
		{"disk vdb is a file that no resource of the environment describes"}
}
