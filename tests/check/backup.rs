//! Mistakes in backups.

use super::*;

#[test]
fn mistakes_of_one_backup_are_found_at_once() {
    check(
        r#"apiVersion: trueup/v1
kind: Backup
metadata: { name: etc }
spec:
  source: { paths: [etc, /srv], exclude: ["*.tmp"] }
  repository: { local: /srv/backup }
  key: backup-key
  schedule: { every: 6h, calendar: "0 2 * * *" }
  verify: { schedule: { calendar: "99 * * * *" } }
  retention: { keep: {}, every: 900d }
  objectives: { rpo: 24 h }
"#,
        expect![[r#"
            environments/lab/x.yaml:5:21 spec/wrong-value: `etc` is not a plain absolute path: start with `/`, leave out `.`, `..` and `//`
            environments/lab/x.yaml:8:13 spec/wrong-value: `every` and `calendar` are both given (give one of them: `{every: 6h}`, or `{calendar: "0 2 * * *"}`)
            environments/lab/x.yaml:9:23 spec/wrong-value: the calendar `99 * * * *` is no crontab of five fields: failed to parse crontab expression: value must be in range 0..=59; found 99
            environments/lab/x.yaml:10:22 spec/wrong-value: it would keep no snapshot at all (say what stays: `{daily: 7, weekly: 4}`; without `retention` everything stays)
            environments/lab/x.yaml:11:22 spec/wrong-value: `24 h` is not a duration: write `90s`, `5m`, `4h` or `1d`
        "#]],
    );
}

#[test]
fn a_backup_has_one_source() {
    check(
        "apiVersion: trueup/v1\nkind: Backup\nmetadata: { name: etc }\nspec:\n  source: { state: \
         true, paths: [/etc] }\n  repository: { local: /srv/backup }\n  key: backup-key\n",
        expect![[r#"
            environments/lab/x.yaml:5:11 spec/wrong-value: several sources are given, and a backup has one (give one of `paths`, `command`, `postgresql`, `state: true`, `disk`, `virtualMachine` and `definition`; a `Backup` for each)
        "#]],
    );
}

#[test]
fn a_repository_is_not_part_of_what_it_saves() {
    let backup = |paths: &str| {
        format!(
            "apiVersion: trueup/v1\nkind: Backup\nmetadata: {{ name: all }}\nspec:\n  source: {{ \
             paths: [{paths}] }}\n  repository: {{ local: /srv/backup/here }}\n  key: backup-key\n"
        )
    };
    check(
        &backup("/"),
        expect![[r#"
        environments/lab/x.yaml:6:24 spec/conflict: the repository and `/`, which is saved, lie in each other (put the repository elsewhere, best on another disk)
    "#]],
    );
    check(
        &backup("/srv/backup/here/data"),
        expect![[r#"
        environments/lab/x.yaml:6:24 spec/conflict: the repository and `/srv/backup/here/data`, which is saved, lie in each other (put the repository elsewhere, best on another disk)
    "#]],
    );
    check(&backup("/srv/backup/here-not"), expect![[""]]);
}

#[test]
fn a_promise_needs_a_schedule_and_a_program_its_whole_path() {
    check(
        "apiVersion: trueup/v1\nkind: Backup\nmetadata: { name: db }\nspec:\n  source: { command: { \
         argv: [pg_dumpall], file: db/all.sql } }\n  repository: { local: /srv/backup }\n  key: \
         backup-key\n  objectives: { rpo: 30d }\n",
        expect![[r#"
            environments/lab/x.yaml:5:31 spec/wrong-value: `pg_dumpall` is not a plain absolute path: start with `/`, leave out `.`, `..` and `//`
            environments/lab/x.yaml:8:22 spec/conflict: nothing takes snapshots by itself (give a `schedule`: `{every: 6h}`)
        "#]],
    );
}

#[test]
fn a_backup_is_not_named_as_every_snapshot_is_tagged() {
    check(
        "apiVersion: trueup/v1\nkind: Backup\nmetadata: { name: trueup }\nspec:\n  source: { state: \
         true }\n  repository: { local: /srv/backup }\n  key: backup-key\n",
        expect![[r#"
            environments/lab/x.yaml:3:19 spec/conflict: every snapshot has this tag (choose another name)
        "#]],
    );
}

#[test]
fn what_a_drill_measures_is_promised_only_where_there_is_one() {
    let spec = |more: &str| {
        format!(
            "apiVersion: trueup/v1\nkind: Backup\nmetadata: {{ name: own }}\nspec:\n  source: {{ \
             state: true }}\n  repository: {{ local: /srv/backup }}\n  key: backup-key\n{more}"
        )
    };
    check(
        &spec("  objectives: { rto: 5m, drilled: 7d }\n"),
        expect![[r#"
        environments/lab/x.yaml:8:22 spec/conflict: nothing restores a snapshot by itself, so that nobody knows (give a `drill`: `{schedule: {every: 7d}}`)
        environments/lab/x.yaml:8:35 spec/conflict: nothing restores a snapshot by itself, so that nobody knows (give a `drill`: `{schedule: {every: 7d}}`)
    "#]],
    );
    let drill = "  drill: { schedule: { every: 1d }, check: [true], timeout: 1m }\n";
    check(
        &spec(drill),
        expect![[r#"
        environments/lab/x.yaml:8:45 spec/wrong-type: expected string, found the boolean `true` (quote it: "true")
    "#]],
    );
    let drill = "  drill: { schedule: { every: 1d }, timeout: 1m }\n";
    check(
        &spec(drill),
        expect![[r#"
        environments/lab/x.yaml:8:46 spec/conflict: it is how long `check` may run, which is not given
    "#]],
    );
    let drill = "  drill: { schedule: { every: 1d }, check: [/usr/bin/true, -x] }\n  objectives: { \
                 rto: 5m, drilled: 7d }\n";
    check(&spec(drill), expect![[""]]);
}

#[test]
fn days_and_ids_are_those_there_are() {
    check(
        r#"apiVersion: trueup/v1
kind: Backup
metadata: { name: etc }
spec:
  source: { paths: [/etc] }
  repository: { local: /srv/backup, id: 1234567 }
  key: backup-key
  schedule: { every: 6h, windows: [{ from: "22:00", to: "04:00", days: [mon, sat] }] }
  limits: { time: soon }
"#,
        expect![[r#"
            environments/lab/x.yaml:6:41 spec/wrong-type: expected string, found the number `1234567` (quote it: "1234567")
        "#]],
    );
    check(
        "apiVersion: trueup/v1\nkind: Backup\nmetadata: { name: etc }\nspec:\n  source: { paths: \
         [/etc] }\n  repository: { local: /srv/backup }\n  key: backup-key\n  schedule: { every: 6h, \
         windows: [{ from: '22:00', to: '04:00', days: [monday] }] }\n",
        expect![[r#"
            environments/lab/x.yaml:8:73 spec/wrong-value: `monday` is not one of mon, tue, wed, thu, fri, sat, sun
        "#]],
    );
}

#[test]
fn places_elsewhere_are_named_without_secrets_and_known_by_their_keys() {
    let backup = |repository: &str| {
        format!(
            "apiVersion: trueup/v1\nkind: Backup\nmetadata: {{ name: etc }}\nspec:\n  source: {{ paths: \
             [/etc] }}\n  key: backup-key\n  repository: {repository}\n"
        )
    };
    for good in [
        "{ rest: { url: 'https://backup.example:8000/host1/', credentials: login, ca: /etc/ca.pem } }",
        "{ rest: { url: 'http://backup.example/host1' } }",
        "{ s3: { endpoint: 'https://s3.example', bucket: vault, prefix: a/b, credentials: s3 } }",
        "{ sftp: { host: backup.example, user: me, path: /srv/a, identity: ssh, hostKeys: [ssh-ed25519 \
         AAAAC3NzaC1lZDI1NTE5AAAAIGq3DHw5XXvj1X8fFi7/G7LLWhnvOvG/JXQSB8F9B+4e comment] } }",
    ] {
        check(&backup(good), expect![[""]]);
    }
    check(
        &backup("{}"),
        expect![[r#"
        environments/lab/x.yaml:7:15 spec/wrong-value: it is not said where the repository lies (give one of `local`, `rest`, `sftp` and `s3`)
    "#]],
    );
    check(
        &backup("{ local: /srv/a, s3: { endpoint: 'https://x', bucket: vault, credentials: a } }"),
        expect![[r#"
            environments/lab/x.yaml:7:15 spec/wrong-value: several places are given, and a repository has one (give one of `local`, `rest`, `sftp` and `s3`)
        "#]],
    );
    check(
        &backup("{ rest: { url: 'https://me:secret@backup.example/' } }"),
        expect![[r#"
        environments/lab/x.yaml:7:30 spec/wrong-value: it is no URL of a server: user and password do not belong in it; name a secret in `credentials`
    "#]],
    );
    check(
        &backup("{ rest: { url: 'http://backup.example/', credentials: login } }"),
        expect![[r#"
            environments/lab/x.yaml:7:30 spec/conflict: the credentials would go over the network unencrypted (use `https://`)
        "#]],
    );
    check(
        &backup(
            "{ sftp: { host: '-x', user: 'a b', path: srv, identity: '/etc/key', hostKeys: [AAAA] } }",
        ),
        expect![[r#"
            environments/lab/x.yaml:7:31 spec/wrong-value: `-x` is no host's name or address
            environments/lab/x.yaml:7:43 spec/wrong-value: it is no user's name
            environments/lab/x.yaml:7:56 spec/wrong-value: `srv` is not a plain absolute path: start with `/`, leave out `.`, `..` and `//`
            environments/lab/x.yaml:7:71 spec/wrong-value: `/etc/key` is not a name: use 1 to 63 of a-z, 0-9 and `-`, not starting or ending with `-`
            environments/lab/x.yaml:7:94 spec/wrong-value: it is no public key (length invalid): write its type and the key, `ssh-ed25519 AAAA…`
        "#]],
    );
    check(
        &backup("{ sftp: { host: h, user: me, path: /srv, identity: ssh, hostKeys: [] } }"),
        expect![[r#"
            environments/lab/x.yaml:7:81 spec/wrong-value: no key of the server is given (without one, anybody could be the server: `ssh-keyscan HOST` shows them)
        "#]],
    );
    check(
        &backup("{ s3: { endpoint: s3.example, bucket: A, prefix: /a, credentials: s3 } }"),
        expect![[r#"
            environments/lab/x.yaml:7:33 spec/wrong-value: it is no URL of a server: start with `https://`
            environments/lab/x.yaml:7:53 spec/wrong-value: it is no bucket's name
            environments/lab/x.yaml:7:64 spec/wrong-value: it is no place in a bucket: write names with `/` between them
        "#]],
    );
}

#[test]
fn the_guest_that_is_saved_is_asked_for_too() {
    let backup = |source: &str| {
        format!(
            "apiVersion: trueup/v1\nkind: Disk\nmetadata: {{ name: data }}\nspec: {{ size: 1GiB }}\n\
             ---\napiVersion: trueup/v1\nkind: Backup\nmetadata: {{ name: web }}\nspec:\n  source: \
             {{ {source} }}\n  repository: {{ local: /srv/backup }}\n  key: backup-key\n"
        )
    };
    check(&backup("disk: data, readAll: 7d"), expect![[""]]);
    check(
        &backup("disk: date"),
        expect![[r#"
        environments/lab/x.yaml:10:19 spec/dangling-reference: there is no `disk/date` in environment `lab` (did you mean `data`?)
    "#]],
    );
    check(
        &backup("virtualMachine: data"),
        expect![[r#"
        environments/lab/x.yaml:10:29 spec/wrong-kind-of-reference: there is no `vm/data` in environment `lab` (`disk/data` is there, but a virtual machine is asked for here)
    "#]],
    );
    check(
        &backup("definition: { kind: Network, name: lan }"),
        expect![[r#"
        environments/lab/x.yaml:10:48 spec/dangling-reference: there is no `network/lan` in environment `lab`
    "#]],
    );
    check(
        &backup("state: true, quiesce: true"),
        expect![[r#"
        environments/lab/x.yaml:10:11 spec/conflict: `quiesce` and `readAll` are about `disk` and `virtualMachine`, of which neither is given
    "#]],
    );
    check(
        &backup("disk: data, virtualMachine: web"),
        expect![[r#"
        environments/lab/x.yaml:10:11 spec/wrong-value: several sources are given, and a backup has one (give one of `paths`, `command`, `postgresql`, `state: true`, `disk`, `virtualMachine` and `definition`; a `Backup` for each)
    "#]],
    );
}

#[test]
fn what_is_saved_before_a_change_is_saved_by_the_backup_that_is_named() {
    let given = |disk: &str, machine: &str, source: &str| {
        format!(
            "apiVersion: trueup/v1\nkind: Environment\nmetadata: {{ name: lab }}\nspec:\n  \
             storagePools: [{{ name: main, path: /srv/pool }}]\n---\n\
             apiVersion: trueup/v1\nkind: Disk\nmetadata: {{ name: data }}\nspec: {{ size: 1GiB{disk} \
             }}\n---\napiVersion: trueup/v1\nkind: Disk\nmetadata: {{ name: log }}\nspec: {{ size: \
             1GiB }}\n---\napiVersion: trueup/v1\nkind: VirtualMachine\nmetadata: {{ name: web \
             }}\nspec:\n  cpus: 1\n  memory: 1GiB\n  disks: [{{ disk: data }}, {{ disk: log \
             }}]\n{machine}---\napiVersion: trueup/v1\nkind: Backup\nmetadata: {{ name: safe \
             }}\nspec:\n  source: {{ {source} }}\n  repository: {{ local: /srv/backup }}\n  key: \
             backup-key\n"
        )
    };
    let said = |given: &str| {
        let files = repo(&[("trueup.yaml", REPOSITORY), ("environments/lab/x.yaml", given)]);
        lines(&check_all(&files, &mut ParseCache::new()).diagnostics)
    };
    let first = "  backupBefore: safe\n  keepFor: 2d\n";
    let whole = "virtualMachine: web";
    assert_eq!(said(&given(", backupBefore: safe", first, whole)), "");
    assert_eq!(said(&given(", backupBefore: safe", "", "disk: data")), "");
    assert_eq!(said(&given("", first, "paths: [/srv/pool]")), "");
    let found = [
        said(&given("", first, "disk: data")),
        said(&given(", backupBefore: safe", "", "paths: [/etc]")),
        said(&given(", backupBefore: save", "", whole)),
        said(&given(", keepFor: 1d", "  snapshot: never\n  keepFor: 1 d\n", whole)),
    ];
    expect![[r#"
        environments/lab/x.yaml:24:17 spec/conflict: `backup/safe` does not save `disk/log` for certain (name a `Backup` with `source: {virtualMachine: web}`)
            environments/lab/x.yaml:31:11 what it saves is said here
        environments/lab/x.yaml:10:35 spec/conflict: `backup/safe` does not save `disk/data` for certain (name a `Backup` with `source: {disk: data}`)
            environments/lab/x.yaml:29:11 what it saves is said here
        environments/lab/x.yaml:10:35 spec/dangling-reference: there is no `backup/save` in environment `lab` (did you mean `safe`?)
        environments/lab/x.yaml:10:30 spec/conflict: nothing is taken that could be kept (name a `Backup` of this disk as `backupBefore`)
        environments/lab/x.yaml:25:12 spec/conflict: nothing is taken that could be kept (say `snapshot: beforeDisruption`, or name a `Backup` of this machine as `backupBefore`)
        environments/lab/x.yaml:25:12 spec/wrong-value: `1 d` is not a duration: write `90s`, `5m`, `4h` or `1d`
    "#]].assert_eq(&found.concat());
}

/// A guest and its backup; what of it is wrong.
#[track_caller]
fn check_boot(machine: &str, source: &str, boot: &str, expected: Expect) {
    let text = format!(
        "apiVersion: trueup/v1\nkind: Backup\nmetadata: {{ name: web }}\nspec:\n  source: {{ {source} \
         }}\n  repository: {{ local: /srv/backup }}\n  key: vault\n  drill:\n    schedule: {{ every: 7d \
         }}\n    boot: {{ {boot} }}\n---\napiVersion: trueup/v1\nkind: VirtualMachine\nmetadata: {{ \
         name: web }}\nspec:\n  cpus: 1\n  memory: 1GiB\n  disks: [{{ disk: root }}]\n{machine}---\n\
         apiVersion: trueup/v1\nkind: Disk\nmetadata: {{ name: root }}\nspec: {{ size: 1GiB }}\n---\n\
         apiVersion: trueup/v1\nkind: Disk\nmetadata: {{ name: other }}\nspec: {{ size: 1GiB }}\n"
    );
    check(&text, expected);
}

#[test]
fn what_is_booted_by_a_drill_has_to_be_a_guest_that_says_when_it_is_up() {
    let vm = "virtualMachine: web";
    check_boot("  readiness: { console: UP }\n", vm, "", expect![[""]]);
    check_boot("  guestAgent: true\n", vm, "", expect![[""]]);
    check_boot("", vm, "readiness: { console: UP }, timeout: 2m, memory: 512MiB", expect![[""]]);
    check_boot("  guestAgent: true\n", "disk: root", "virtualMachine: web", expect![[""]]);
    check_boot(
        "",
        vm,
        "",
        expect![[r#"
        environments/lab/x.yaml:10:11 spec/missing-field: nothing says when a copy of vm/web is up (give it, or the machine, a `readiness`: `readiness: {console: "login:"}`)
    "#]],
    );
    let tcp = "  readiness: { tcp: { port: 22, address: 10.0.0.2 } }\n";
    check_boot(
        tcp,
        vm,
        "",
        expect![[r#"
        environments/lab/x.yaml:10:11 spec/conflict: the readiness of vm/web is asked over the network, on which the guest answers and not its copy (say what proves that the copy is up: `readiness: {guestAgent: true}` or `readiness: {console: "login:"}`)
    "#]],
    );
    check_boot(
        "",
        "state: true",
        "",
        expect![[r#"
        environments/lab/x.yaml:10:11 spec/conflict: only what is saved of a guest can be booted (leave it out, or save a `virtualMachine` or a `disk`)
    "#]],
    );
    check_boot(
        "",
        "disk: root",
        "readiness: { console: UP }",
        expect![[r#"
        environments/lab/x.yaml:10:11 spec/missing-field: nothing says as which machine the disk is booted (name the one that boots from it: `virtualMachine: web`)
    "#]],
    );
    check_boot(
        "",
        "disk: other",
        "virtualMachine: web, readiness: { console: UP }",
        expect![[r#"
        environments/lab/x.yaml:10:29 spec/conflict: vm/web does not write to disk/other (name the one that does)
    "#]],
    );
    check_boot(
        "",
        vm,
        "virtualMachine: web, readiness: { console: UP }",
        expect![[r#"
        environments/lab/x.yaml:10:29 spec/conflict: it is booted as the machine that is saved (leave it out)
    "#]],
    );
    check_boot(
        "",
        vm,
        "readiness: { guestAgent: true }",
        expect![[r#"
        environments/lab/x.yaml:10:24 spec/conflict: vm/web has no guest agent (give it `guestAgent: true`, and the guest the package `qemu-guest-agent`)
    "#]],
    );
    let commands = "readiness: { console: UP }, commands: [{ argv: [test, -f, /srv/x] }]";
    check_boot(
        "",
        vm,
        commands,
        expect![[r#"
        environments/lab/x.yaml:10:51 spec/conflict: vm/web has no guest agent (give it `guestAgent: true`, and the guest the package `qemu-guest-agent`)
        environments/lab/x.yaml:10:61 spec/wrong-value: `test` is not a plain absolute path: start with `/`, leave out `.`, `..` and `//`
    "#]],
    );
}
