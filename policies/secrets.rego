# No password, private key or token stands in the repository in plain sight.
#
# trueup looks through user data and files of built images itself and gives rules the places only,
# never the values. `params.ignore` lists kinds of findings to leave out.
package trueup.secrets

params := object.get(input, ["params", "trueup.secrets"], {})

deny contains {"msg": msg, "resource": id, "field": finding.field} if {
	some id, resource in input.desired.resources
	some finding in resource.secrets
	not finding.what in object.get(params, "ignore", [])
	msg := sprintf("a %s seems to stand here in plain text%s", [finding.what, line(finding)])
}

line(finding) := sprintf(" (line %d of the text)", [finding.line]) if finding.line > 0

line(finding) := "" if finding.line == 0
