//! Every mistake with its field.

use super::*;
use crate::sample;

#[track_caller]
fn faults(change: impl FnOnce(&mut Cluster)) -> String {
    let mut wish = sample::cluster();
    change(&mut wish);
    let faults: Vec<String> = check(&wish).iter().map(ToString::to_string).collect();
    faults.join("\n")
}

#[test]
fn a_sound_wish_has_no_fault() {
    assert_eq!(faults(|_| {}), "");
}

#[test]
fn every_mistake_is_told_with_its_field() {
    let of_names = faults(|wish| {
        wish.pools[1].nodes[0].name = "n1".into();
        wish.partitions[1].name = "batch".into();
        wish.partitions[1].pools = vec!["nope".into()];
        wish.partitions[1].default = true;
    });
    assert_eq!(
        of_names,
        "pools[1].nodes: n1 is in pool `cpu` already\n\
         partitions[1].name: `batch` is there twice\n\
         partitions[1].pools[0]: there is no pool `nope`, only `cpu`, `gpu`\n\
         partitions[1].default: `batch` is the default already"
    );
    let of_sizes = faults(|wish| {
        wish.pools[0].cpus = 0;
        wish.pools[1].memory_mib = 0;
        wish.pools[1].gres[0].count = 3;
        wish.partitions[0].max_minutes = Some(10);
        wish.partitions[0].default_minutes = Some(11);
    });
    assert_eq!(
        of_sizes,
        "pools[0].cpus: `cpus` has to be 1 to 4096\n\
         pools[1].memoryMib: `memory` has to be 1 MiB to 64 TiB\n\
         pools[1].gres[0].devices: `devices` lists 2, and `count` says 3\n\
         partitions[0].defaultMinutes: the default time is more than the longest, 10 minutes"
    );
}

#[test]
fn a_line_cannot_bring_in_what_has_a_field_or_is_secret() {
    let told = faults(|wish| {
        wish.parameters.insert("prolog".into(), "/x".into());
        wish.parameters.insert("AccountingStoragePass".into(), "x".into());
        wish.parameters.insert("MailProg".into(), "/bin/true\nNodeName=evil".into());
        wish.lines = vec!["Include /etc/other".into(), "DebugFlags=Gres NodeName=x1".into()];
        wish.gres_lines = vec![
            "AutoDetect=nvml".into(),
            "NodeName=x1 Name=gpu".into(),
            "Include /etc/shadow".into(),
        ];
        wish.pools[0].parameters.insert("Reason".into(), "a\0b".into());
    });
    assert_eq!(
        told,
        "pools[0].parameters.Reason: the value is empty, or has a line break, `\"`, `#` or `\\` in it\n\
         parameters.AccountingStoragePass: a password has no place in a file that everybody reads\n\
         parameters.MailProg: the value is empty, or has a line break, `\"`, `#` or `\\` in it\n\
         parameters.prolog: `prolog` follows from `hooks.prolog`: say it there\n\
         lines[0]: an included file would not be proved: put its lines here\n\
         lines[1]: `NodeName` follows from `pools`: say it there\n\
         gresLines[1]: `NodeName` follows from `pools[].gres`: say it there\n\
         gresLines[1]: `Name` follows from `pools[].gres`: say it there\n\
         gresLines[2]: an included file would not be proved: put its lines here"
    );
}

#[test]
fn accounts_need_their_parents_and_a_database() {
    let told = faults(|wish| {
        wish.accounts[0].parent = Some("vision".into());
        wish.accounts[1].parent = Some("research".into());
    });
    assert!(told.contains("accounts go in a circle: research > vision > research"), "{told}");
    let told = faults(|wish| wish.accounts[0].description = Some("a|b".into()));
    assert!(
        told.contains("accounts[0].description: the description has a line break, `|`"),
        "{told}"
    );
    let told = faults(|wish| wish.accounting = None);
    assert!(told.contains("accounts: `accounts` needs `accounting`"), "{told}");
}

#[test]
fn what_would_leave_a_cluster_more_open_than_it_says_is_a_mistake() {
    let told = faults(|wish| {
        wish.parameters.insert("privatedata".into(), "jobs,acounts".into());
        wish.partitions[0].groups.insert("a,b".into());
        wish.accounts[1].default_qos = Some("gold".into());
        wish.accounts[1].coordinators.insert("Bob".into());
    });
    assert_eq!(
        told,
        "partitions[0].groups: `a,b` has a blank, `,` or `=` in it\n\
         accounts[1].coordinators: `Bob`: Slurm keeps such names in lower case\n\
         accounts[1].defaultQos: `gold` is not among its `qos`\n\
         parameters.privatedata: `acounts` hides nothing, and Slurm does not say so: known are \
         accounts, events, jobs, nodes, partitions, reservations, usage, users"
    );
}

#[test]
fn other_fields_are_those_that_have_none_of_their_own() {
    let told = faults(|wish| {
        let own = &mut wish.pools[0].parameters;
        own.insert("TmpDisk".into(), "1000".into());
        own.insert("Weight".into(), "5".into());
        let own = &mut wish.partitions[0].parameters;
        own.insert("OverSubscribe".into(), "YES".into());
        own.insert("allowgroups".into(), "x".into());
        own.insert("NodeName".into(), "x".into());
    });
    assert_eq!(
        told,
        "pools[0].parameters.Weight: `Weight` has a field of its own beside `parameters`: say it there\n\
         partitions[0].parameters.NodeName: `NodeName` begins a line of its own, and this is a part of one\n\
         partitions[0].parameters.allowgroups: `allowgroups` has a field of its own beside `parameters`: say it there"
    );
    let told = faults(|wish| wish.pools[0].nodes.clear());
    assert!(told.contains("`pools` have no node"), "{told}");
}

#[test]
fn a_name_is_no_option_of_a_program() {
    let told = faults(|wish| wish.pools[0].nodes[0].name = "-Fconfig".into());
    assert_eq!(
        told,
        "pools[0].nodes[0].name: `-Fconfig` begins with `-`: programs would take it for an option"
    );
}

#[test]
fn an_address_starts_no_program_of_whoever_uses_it() {
    for address in ["-oProxyCommand", "$(id)", "x;id", "{{1}}", "a b", ""] {
        let told = faults(|wish| wish.login[0].address = Some(address.into()));
        let expected = "login[0].address: `";
        assert!(told.starts_with(expected) && told.contains("neither an IP"), "{address}: {told}");
    }
    for address in ["10.0.0.7", "fe80::1%eth0", "login-1.example.org"] {
        assert_eq!(faults(|wish| wish.login[0].address = Some(address.into())), "", "{address}");
    }
}
