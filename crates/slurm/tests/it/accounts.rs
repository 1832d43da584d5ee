//! Accounts in a real database: written once, read back, and only differences written again.

use trueup_slurm::plan::accounts::{self, Ours, Write};
use trueup_slurm::wish::{Cluster, Limit};

use crate::lab::database::{self, PROGRAMS};
use crate::lab::{Lab, possible, until};

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
    if !possible(PROGRAMS) {
        return;
    }
    let Some(mut lab) = Lab::prepare(&[]) else { return };
    let port = lab.spare_port();
    let wish = database::with_accounting(&lab.wish, port);
    lab.wish = wish.clone();
    lab.write_files(&wish);
    database::up(&lab);
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

    // Rights, which sacctmgr says Modified of whether they change or not.
    let mut bare = next.clone();
    bare.admins.clear();
    bare.accounts[1].coordinators.clear();
    bare.accounts[1].default_qos = Some("gold".into());
    let rights = Ours {
        coordinators: [("research".to_owned(), "nobody".to_owned())].into(),
        admins: ["nobody".to_owned()].into(),
        ..Ours::default()
    };
    let changed = plan(&lab, &bare, &rights);
    assert_eq!(changed.len(), 3, "{:?}", lines(&changed));
    write(&lab, &changed);
    assert_eq!(lines(&plan(&lab, &bare, &rights)), [""; 0]);
    let there = lab.commands().accounts("lab").unwrap();
    assert_eq!(there.admins.keys().collect::<Vec<_>>(), ["root"], "Slurm's own stays");
    assert_eq!(lines(&plan(&lab, &next, &rights)).len(), 3, "and back");
    write(&lab, &plan(&lab, &next, &rights));

    // What an account was given is taken back, if it was ours to give; then it has what the one above has.
    let mut less = next.clone();
    less.accounts[0].qos.clear();
    less.accounts[0].fairshare = None;
    assert_eq!(lines(&plan(&lab, &less, &ours)), [""; 0], "somebody else's");
    let vision = || ["vision".to_owned()].into();
    let given = Ours { account_qos: vision(), shares: vision(), ..Ours::default() };
    let taken = plan(&lab, &less, &given);
    assert_eq!(taken.len(), 1, "{:?}", lines(&taken));
    write(&lab, &taken);
    assert_eq!(lines(&plan(&lab, &less, &given)), [""; 0]);
    let of_vision = ["show", "assoc", "account=vision", "user=", "format=QOS,Fairshare"];
    let shown = lab.ok(&[&["sacctmgr", "-nP"], &of_vision[..]].concat());
    assert_eq!(shown.trim(), "gold,normal|1");
    write(&lab, &plan(&lab, &next, &given));

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
    // A user without an account is no user any more.
    last.accounts[0].coordinators.clear();
    last.admins.clear();
    assert_eq!(lines(&plan(&lab, &last, &ours)), [""; 0]);
    let ours = Ours {
        accounts: ["research", "vision"].map(str::to_owned).into(),
        users: ["root", "nobody"].map(|user| ("vision".to_owned(), user.to_owned())).into(),
        qos: ["gold".to_owned()].into(),
        ..Ours::default()
    };
    until("the job is over", || {
        lab.commands().jobs().ok()?.iter().all(|job| !job.holds_nodes()).then_some(())
    });
    let removals = plan(&lab, &last, &ours);
    assert_eq!(removals.len(), 3, "{:?}", lines(&removals));
    write(&lab, &removals);
    let there = lab.commands().accounts("lab").unwrap();
    assert!(there.accounts.contains_key("guests"), "somebody else's");
    let of = |name: &str| there.associations.keys().any(|(account, _)| account == name);
    assert!(of("research") && !of("vision"), "{:?}", there.associations.keys());
    assert_eq!(lines(&plan(&lab, &last, &ours)), [""; 0]);
}
