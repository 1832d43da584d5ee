//! Rendering by example.

use expect_test::expect;

use super::super::fixture::*;
use super::{Style, json, markdown, text};
use crate::model::resource::DnsRecord;

#[test]
fn markdown_folds_details_and_disarms_what_specs_say() {
    let mut machine = converged();
    machine.edit_vm("vm/web", |vm| vm.memory.max = 4 * GIB);
    machine.edit_network("network/lan", |network| {
        let names = vec!["@all|<b>".into()];
        network.dns = Some(vec![DnsRecord { ip: "10.7.0.9".parse().unwrap(), names }]);
    });
    expect![[r#"
        **Plan:&#8203; 0 to create, 2 to change &#40;1 restart&#41;, 0 to destroy · digest a163717d6dad**

        | # | step | resource | why | disturbs |
        |--:|---|---|---|---|
        | 1 | define  | `network/lan` | changed |   |
        | 2 | update  | `network/lan` | changed | live  |
        | 3 | define  | `vm/web` | changed |   |
        | 4 | stop within 60 s, never by force | `vm/web` | changed | RESTART `vm/web` |
        | 5 | start  | `vm/web` | changed |   |

        <details><summary>What differs</summary>

        - `network/lan` (define)
          - dns.10.7.0.9:&#8203; nothing → &#123;"ip":&#8203;"10.7.0.9","names":&#8203;&#91;"&#64;&#8203;all&#124;&lt;b&gt;"&#93;&#125; &#40;live&#41;
        - `vm/web` (define)
          - memory.max:&#8203; 2 GiB → 4 GiB &#40;restart&#41;

        </details>
    "#]]
    .assert_eq(&markdown(&machine.plan(), 60_000));
}

#[test]
fn markdown_keeps_to_its_budget_and_counts_the_rest() {
    let mut machine = Machine::new();
    for number in 0..500 {
        machine.want(&format!("vm/web-{number}"), vm("web", &[], &[]));
    }
    let shown = markdown(&machine.plan(), 5000);
    assert!(shown.len() <= 5000, "{}", shown.len());
    assert!(shown.contains("more steps"), "{shown}");
}

#[test]
fn no_form_shows_the_text_of_cloud_init_media() {
    let mut machine = web();
    machine.want("seed/web", seed("web", "password: hunter2"));
    let plan = machine.plan();
    let forms = [
        text(&plan, Style { color: true, width: 80 }),
        markdown(&plan, 10_000),
        json(&plan).to_string(),
    ];
    assert!(forms.iter().all(|form| form.contains("seed/web") && !form.contains("hunter2")));
}

#[test]
fn colour_adds_nothing_and_width_cuts() {
    let mut machine = converged();
    machine.desired.resources.clear();
    let plan = machine.plan();
    let plain = text(&plan, Style::default());
    let colored = text(&plan, Style { color: true, ..Style::default() });
    assert_eq!(anstream::adapter::strip_str(&colored).to_string(), plain);
    let narrow = text(&plan, Style { color: false, width: 40 });
    assert!(narrow.lines().all(|line| line.chars().count() <= 40));
}
