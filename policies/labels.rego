# Resources carry the labels that are asked for, such as an owner and a cost centre.
#
# Off until `params.required` lists labels. `params.kinds` says of which kinds (machines and disks
# when not given), `params.values` may give a pattern by label that its value has to match.
package trueup.labels

params := object.get(input, ["params", "trueup.labels"], {})

kinds := object.get(params, "kinds", ["vm", "disk"])

deny contains {"msg": msg, "resource": id, "field": "/metadata/labels"} if {
	some id, resource in input.desired.resources
	asked(id, resource)
	some label in object.get(params, "required", [])
	trim_space(object.get(resource.labels, label, "")) == ""
	msg := sprintf("label `%s` is missing", [label])
}

deny contains {"msg": msg, "resource": id, "field": sprintf("/metadata/labels/%s", [label])} if {
	some id, resource in input.desired.resources
	asked(id, resource)
	some label, pattern in object.get(params, "values", {})
	value := resource.labels[label]
	not regex.match(pattern, value)
	msg := sprintf("label `%s` is `%s`, which does not match `%s`", [label, value, pattern])
}

# What another resource brings along carries the labels of that one.
asked(id, resource) if {
	not resource.owner
	split(id, "/")[0] in kinds
}
