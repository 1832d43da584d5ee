//! Accounts in a real database: written once, read back, and only differences written again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use trueup_slurm::plan::accounts::{self, Ours, Write};
use trueup_slurm::render;
use trueup_slurm::wish::{Account, Accounting, Cluster, Database, Enforce, Host, Limit, Qos};

use crate::lab::{Lab, possible, until};

const DATABASE: &[&str] = &["slurmdbd", "sacctmgr", "mariadbd", "mariadb", "mariadb-install-db"];

/// MariaDB and slurmdbd in the lab's folder.
fn database_up(lab: &mut Lab) {
    let at = |name: &str| lab.path(name);
    let (data, socket) = (at("db"), at("run/db.sock"));
    let options = ["--no-defaults", "--user=root", &format!("--datadir={data}")].map(str::to_owned);
    let mut install = vec!["mariadb-install-db"];
    install.extend(options.iter().map(String::as_str));
    lab.ok(
        &[&install[..], &["--auth-root-authentication-method=socket", "--skip-test-db"]].concat()
    );
    let more = [
        format!("--socket={socket}"),
        "--skip-networking".to_owned(),
        format!("--pid-file={}", at("run/db.pid")),
        format!("--log-error={}", at("log/mariadb")),
        "--innodb-buffer-pool-size=64M".to_owned(),
        "--innodb-lock-wait-timeout=900".to_owned(),
        // The lab is thrown away: nothing has to survive a power cut.
        "--innodb-flush-log-at-trx-commit=0".to_owned(),
    ];
    let mut argv = vec!["sh", "-c", "\"$@\" >/dev/null 2>&1 </dev/null &", "sh", "mariadbd"];
    argv.extend(options.iter().chain(&more).map(String::as_str));
    lab.background(&argv, &[]);
    let client = |sql: &str| lab.sh(&["mariadb", "--no-defaults", "-S", &socket, "-e", sql]);
    until("the database answers", || client("select 1").status.success().then_some(()));
    let made = client(
        "create database slurm_acct; create user 'slurm'@'localhost' identified by 'lab'; \
         grant all on slurm_acct.* to 'slurm'@'localhost'",
    );
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let text = render(&lab.wish, lab.shape).unwrap().slurmdbd.unwrap();
    let own = [
        ("/run/slurmdbd.pid", at("run/slurmdbd.pid")),
        ("/var/log/slurm/slurmdbd.log", at("log/slurmdbd")),
    ];
    let text = own.iter().fold(text, |text, (from, to)| text.replace(from, to));
    let file = lab.at().join("etc/slurmdbd.conf");
    fs::write(&file, format!("{text}StoragePass=lab\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    lab.background(&["slurmdbd"], &[("MYSQL_UNIX_PORT", &socket)]);
    until("slurmdbd answers", || lab.commands().accounts("lab").ok());
}

fn with_accounting(wish: &Cluster, port: u16) -> Cluster {
    let database =
        Database { host: "localhost".into(), name: "slurm_acct".into(), user: "slurm".into() };
    let host = Host { name: "localhost".into(), address: None, port: Some(port) };
    let account = |name: &str, parent: Option<&str>, users: &[&str]| Account {
        name: name.into(),
        parent: parent.map(str::to_owned),
        description: Some(format!("the {name} people")),
        fairshare: None,
        qos: ["normal", "gold"].map(str::to_owned).into(),
        limits: BTreeMap::new(),
        users: users.iter().map(|one| (*one).to_owned()).collect(),
    };
    let mut wish = wish.clone();
    wish.accounting = Some(Accounting {
        host,
        database,
        enforce: [Enforce::Associations, Enforce::Limits, Enforce::Qos].into(),
    });
    wish.accounts = vec![
        Account { fairshare: Some(7), ..account("vision", Some("research"), &["root"]) },
        account("research", None, &[]),
    ];
    wish.qos = vec![Qos {
        name: "gold".into(),
        priority: 100,
        limits: [
            (Limit::MaxTresPerUser, "gres/gpu=1".to_owned()),
            (Limit::GrpTresMins, "gres/gpu=100".to_owned()),
            (Limit::MaxWall, "02:00:00".to_owned()),
        ]
        .into(),
    }];
    wish
}

fn lines(writes: &[Write]) -> Vec<String> {
    writes.iter().map(|write| write.0.join(" ")).collect()
}

#[track_caller]
fn plan(lab: &Lab, wish: &Cluster, ours: &Ours) -> Vec<Write> {
    accounts::plan(wish, &lab.commands().accounts("lab").unwrap(), ours)
}

#[track_caller]
fn write(lab: &Lab, writes: &[Write]) {
    for one in writes {
        lab.control().account(one).unwrap_or_else(|error| panic!("{error}{}", lab.logs()));
    }
}

#[test]
fn accounts_and_limits_are_written_once_and_hold() {
    if !possible(DATABASE) {
        return;
    }
    let Some(mut lab) = Lab::prepare(&[]) else { return };
    let port = lab.spare_port();
    let wish = with_accounting(&lab.wish, port);
    lab.wish = wish.clone();
    lab.write_files(&wish);
    database_up(&mut lab);
    // The controller makes itself known to the database when it starts.
    lab.controller_up();
    until("the cluster is known", || {
        lab.ok(&["sacctmgr", "-nP", "show", "cluster", "format=cluster"])
            .contains("lab")
            .then_some(())
    });

    let ours = Ours::default();
    let first = plan(&lab, &wish, &ours);
    assert!(!first.is_empty());
    write(&lab, &first);
    assert_eq!(lines(&plan(&lab, &wish, &ours)), [""; 0], "what is there is not written again");

    // One limit differs: one call.
    let mut next = wish.clone();
    next.qos[0].limits.insert(Limit::MaxTresPerUser, "gres/gpu=2".into());
    next.qos[0].limits.remove(&Limit::GrpTresMins);
    let changed = plan(&lab, &next, &ours);
    assert_eq!(lines(&changed).len(), 1, "{:?}", lines(&changed));
    write(&lab, &changed);
    assert_eq!(lines(&plan(&lab, &next, &ours)), [""; 0]);

    // Slurm itself holds to them.
    lab.daemon("g1");
    lab.await_nodes("idle", &["g1"]);
    let wrong = lab.sh(&["sbatch", "-A", "nobody", "--wrap", "true"]);
    assert!(!wrong.status.success(), "an account that there is not");
    let gpu = ["-p", "gpu", "-w", "g1", "-A", "vision", "--qos=gold", "--gres=gpu:1"];
    let job = lab.job(&gpu);
    assert_eq!(lab.running(job).qos, "gold");
    lab.ok(&["scancel", &job.to_string()]);

    // Somebody else's account stays; ours goes when it is no longer wished.
    lab.ok(&["sacctmgr", "-i", "add", "account", "guests"]);
    let mut last = next.clone();
    last.accounts.retain(|one| one.name != "vision");
    assert_eq!(lines(&plan(&lab, &last, &ours)), [""; 0]);
    let ours = Ours {
        accounts: ["research", "vision"].map(str::to_owned).into(),
        users: [("vision".to_owned(), "root".to_owned())].into(),
        qos: ["gold".to_owned()].into(),
    };
    until("the job is over", || {
        lab.commands().jobs().ok()?.iter().all(|job| !job.holds_nodes()).then_some(())
    });
    let removals = plan(&lab, &last, &ours);
    assert_eq!(removals.len(), 2, "{:?}", lines(&removals));
    write(&lab, &removals);
    let there = lab.commands().accounts("lab").unwrap();
    assert!(there.accounts.contains_key("guests"), "somebody else's");
    let of = |name: &str| there.associations.keys().any(|(account, _)| account == name);
    assert!(of("research") && !of("vision"), "{:?}", there.associations.keys());
    assert_eq!(lines(&plan(&lab, &last, &ours)), [""; 0]);
}
