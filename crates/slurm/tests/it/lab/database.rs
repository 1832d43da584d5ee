//! A real accounting database for a lab: MariaDB and slurmdbd in its folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use trueup_slurm::render;
use trueup_slurm::wish::{
    Account, Accounting, AdminLevel, Cluster, Database, Enforce, Host, Limit, Qos,
};

use super::{Lab, until};

/// What it needs.
pub(crate) const PROGRAMS: &[&str] =
    &["slurmdbd", "sacctmgr", "mariadbd", "mariadb", "mariadb-install-db"];

/// MariaDB and slurmdbd in the lab's folder.
pub(crate) fn up(lab: &Lab) {
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

/// A wish with accounts, users, limits and rights.
pub(crate) fn with_accounting(wish: &Cluster, port: u16) -> Cluster {
    let database =
        Database { host: "localhost".into(), name: "slurm_acct".into(), user: "slurm".into() };
    let host = Host { name: "localhost".into(), address: None, port: Some(port) };
    let account = |name: &str, parent: Option<&str>, users: &[&str]| Account {
        name: name.into(),
        parent: parent.map(str::to_owned),
        description: Some(format!("the {name} people")),
        fairshare: None,
        qos: ["normal", "gold"].map(str::to_owned).into(),
        default_qos: None,
        limits: BTreeMap::new(),
        users: users.iter().map(|one| (*one).to_owned()).collect(),
        coordinators: BTreeSet::new(),
    };
    let mut wish = wish.clone();
    wish.accounting = Some(Accounting {
        host,
        database,
        enforce: [Enforce::Associations, Enforce::Limits, Enforce::Qos].into(),
    });
    wish.accounts = vec![
        Account { fairshare: Some(7), ..account("vision", Some("research"), &["root", "nobody"]) },
        Account {
            default_qos: Some("normal".into()),
            // Of the account below, too, as Slurm shows it; and in other units than Slurm's.
            limits: [(Limit::MaxJobs, "50"), (Limit::MaxWall, "90"), (Limit::GrpTres, "mem=10240")]
                .map(|(limit, value)| (limit, value.to_owned()))
                .into(),
            coordinators: ["nobody".to_owned()].into(),
            ..account("research", None, &[])
        },
    ];
    wish.admins = [("nobody".to_owned(), AdminLevel::Operator)].into();
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
