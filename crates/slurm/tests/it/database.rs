//! A database that asks the kernel who speaks to it, and clusters made known to it.

use std::time::Duration;

use trueup_slurm::{Database, DatabaseError, Here};

use crate::lab::database::{self, PROGRAMS};
use crate::lab::{Lab, possible};

#[test]
fn a_cluster_is_made_known_once_and_silence_is_told() {
    if !possible(PROGRAMS) {
        return;
    }
    let Some(mut lab) = Lab::prepare(&[]) else { return };
    let port = lab.spare_port();
    lab.wish = database::with_accounting(&lab.wish, port);
    lab.write_files(&lab.wish);
    let conf = std::fs::read_to_string(lab.at().join("etc/slurm.conf")).unwrap();
    let limit = |seconds| Database {
        machine: Here::shared(),
        bin: None,
        question: Duration::from_secs(30),
        limit: Duration::from_secs(seconds),
    };
    let work = lab.at().join("work");
    let error = limit(0).register("lab", &conf, &work).unwrap_err();
    assert!(matches!(error, DatabaseError::Silent { .. }), "{error}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
    database::up(&lab);
    assert!(!limit(30).register("lab", &conf, &work).unwrap(), "it was not known");
    assert!(limit(30).register("lab", &conf, &work).unwrap(), "it is now");
    let shown = lab.ok(&["sacctmgr", "-nP", "show", "cluster", "format=Cluster"]);
    assert_eq!(shown, "lab\n");
    assert_eq!(std::fs::read_dir(&work).unwrap().count(), 0, "nothing is left of the questions");

    // Told twice, MariaDB is as told once; and somebody else is not who they say.
    let mut of = lab.wish.accounting.clone().unwrap().database;
    of.user = "nobody".into();
    let socket = lab.path("run/db.sock");
    let sql = Database::statements(&of);
    for _ in 0..2 {
        lab.ok(&["mariadb", "--no-defaults", "-S", &socket, "-e", &sql]);
    }
    let ask = [
        "mariadb",
        "--no-defaults",
        "-S",
        &socket,
        "-u",
        "nobody",
        "slurm_acct",
        "-e",
        "show tables",
    ];
    let as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"];
    assert!(lab.ok(&[&as_nobody[..], &ask].concat()).contains("acct_table"));
    let other = lab.sh(&ask);
    assert!(!other.status.success(), "root is not nobody");
}
