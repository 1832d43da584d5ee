package trueup.secrets_test

import data.trueup.secrets

found(what, line) := {"seed/web": {"secrets": [{
	"field": "/spec/cloudInit/userData/password",
	"line": line,
	"what": what,
}]}}

denied(resources, params) := secrets.deny with input as {
	"desired": {"resources": resources},
	"params": {"trueup.secrets": params},
}

test_nothing_found_is_fine if {
	count(denied({"seed/web": {"secrets": []}}, {})) == 0
}

test_a_finding_is_denied_where_it_stands if {
	denied(found("password", 0), {}) == {{
		"msg": "a password seems to stand here in plain text",
		"resource": "seed/web",
		"field": "/spec/cloudInit/userData/password",
	}}
}

test_the_line_of_a_text_is_said if {
	some finding in denied(found("private key", 7), {})
	endswith(finding.msg, "(line 7 of the text)")
}

test_kinds_of_findings_can_be_left_out if {
	count(denied(found("token", 0), {"ignore": ["token"]})) == 0
}
