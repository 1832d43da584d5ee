//! An empty database, one that is as wished, and one with what others put there.

use super::*;
use crate::sample;

/// As 22.05 says it after the calls of the first plan.
const ACCOUNTS: &str = "research|research|ann\nroot|default root account|\nvision|vision|ann\n";
const USERS: &str = "ann|None\nbob|Operator\nroot|Administrator\n";

fn lines(writes: &[Write]) -> Vec<String> {
    writes.iter().map(|write| write.0.join(" ")).collect()
}

#[test]
fn an_empty_database_gets_everything_in_an_order_that_works() {
    let writes = plan(&sample::cluster(), &Accounts::default(), &Ours::default());
    assert_eq!(
        lines(&writes),
        [
            "-i add qos gold",
            "-i modify qos where name=gold set Priority=100 GrpTRESMins=gres/gpu=100 MaxTRESPerUser=gres/gpu=1",
            "-i add account research cluster=lab parent=root Description=Research",
            "-i modify account where name=research cluster=lab set Fairshare=10 QOS=gold,normal DefaultQOS=gold",
            "-i add user ann account=research cluster=lab",
            "-i add account vision cluster=lab parent=research",
            "-i modify account where name=vision cluster=lab set GrpTRES=gres/gpu=2",
            "-i add user bob account=vision cluster=lab",
            "-i add coordinator account=research names=ann",
            "-i modify user where name=bob set AdminLevel=Operator",
        ]
    );
}

fn there() -> Accounts {
    let associations = "root|||1|normal||||||||||||\n\
         research||root|10|gold,normal|gold|||||||||||\n\
         research|ann||1|||||||||||||\n\
         vision||research|1||||gres/gpu=2|||||||||\n\
         vision|bob||1|||||||||||||\n";
    let qos = "normal|0||||||||||||\ngold|100|||gres/gpu=100|||||gres/gpu=1||||\n";
    Accounts::parse(ACCOUNTS, associations, qos, USERS).unwrap()
}

#[test]
fn what_is_there_is_not_written_again() {
    assert_eq!(lines(&plan(&sample::cluster(), &there(), &Ours::default())), [""; 0]);
    let few = "root|||1|normal|||||||\n";
    assert!(Accounts::parse(ACCOUNTS, few, "", USERS).is_err(), "of another release");
}

#[test]
fn only_what_was_ours_goes() {
    let mut wish = sample::cluster();
    wish.accounts.pop();
    wish.qos[0].limits.remove(&Limit::MaxTresPerUser);
    let foreign = plan(&wish, &there(), &Ours::default());
    assert_eq!(lines(&foreign), ["-i modify qos where name=gold set MaxTRESPerUser=gres/gpu=-1"]);
    let ours = Ours {
        accounts: ["research", "vision"].map(str::to_owned).into(),
        users: [("vision".to_owned(), "bob".to_owned())].into(),
        ..Ours::default()
    };
    assert_eq!(
        lines(&plan(&wish, &there(), &ours))[1..],
        [
            "-i delete user where name=bob account=vision cluster=lab",
            "-i delete account where name=vision cluster=lab",
        ]
    );
}

#[test]
fn units_and_order_are_no_difference() {
    let mut wish = sample::cluster();
    wish.accounts[1].limits = [
        (Limit::GrpTres, "mem=10240,cpu=04".to_owned()),
        (Limit::MaxWall, "120".to_owned()),
        (Limit::MaxJobs, "5".to_owned()),
    ]
    .into();
    let mut there = there();
    let row = there.associations.get_mut(&("vision".to_owned(), None)).unwrap();
    row.limits = [
        (Limit::GrpTres, "cpu=4,mem=10G".to_owned()),
        (Limit::MaxWall, "02:00:00".to_owned()),
        (Limit::MaxJobs, "5".to_owned()),
    ]
    .into();
    assert_eq!(lines(&plan(&wish, &there, &Ours::default())), [""; 0]);
    wish.accounts[1].limits.insert(Limit::MaxWall, "121".into());
    wish.accounts[1].limits.insert(Limit::GrpTres, "mem=10G,cpu=5".into());
    assert_eq!(
        lines(&plan(&wish, &there, &Ours::default())),
        ["-i modify account where name=vision cluster=lab set GrpTRES=mem=10G,cpu=5 MaxWall=121"]
    );
}

#[test]
fn rights_that_were_ours_are_taken_back_and_no_others() {
    let mut wish = sample::cluster();
    wish.accounts[0].coordinators.clear();
    wish.admins.clear();
    assert_eq!(lines(&plan(&wish, &there(), &Ours::default())), [""; 0], "somebody else's");
    let ours = Ours {
        coordinators: ["research", "vision"].map(|of| (of.to_owned(), "ann".to_owned())).into(),
        admins: ["ann", "bob"].map(str::to_owned).into(),
        ..Ours::default()
    };
    assert_eq!(
        lines(&plan(&wish, &there(), &ours)),
        [
            "-i delete coordinator where account=research names=ann",
            "-i delete coordinator where account=vision names=ann",
            "-i modify user where name=bob set AdminLevel=None",
        ]
    );
    // A coordinator of the account above is shown of the one below, and goes with that one alone.
    let wish = sample::cluster();
    assert_eq!(lines(&plan(&wish, &there(), &Ours { admins: BTreeSet::new(), ..ours })), [""; 0]);
}

#[test]
fn what_an_account_was_given_is_taken_back_and_what_others_gave_it_stays() {
    let mut wish = sample::cluster();
    wish.accounts[0].qos.clear();
    wish.accounts[0].default_qos = None;
    wish.accounts[0].fairshare = None;
    let by_hand = lines(&plan(&wish, &there(), &Ours::default()));
    assert_eq!(by_hand, ["-i modify account where name=research cluster=lab set DefaultQOS=-1"]);
    // That of another account is no reason.
    let vision = BTreeSet::from(["vision".to_owned()]);
    let ours = Ours { account_qos: vision.clone(), shares: vision, ..Ours::default() };
    assert_eq!(lines(&plan(&wish, &there(), &ours)), by_hand);
    let research = BTreeSet::from(["research".to_owned()]);
    let ours = Ours { account_qos: research.clone(), shares: research, ..Ours::default() };
    assert_eq!(
        lines(&plan(&wish, &there(), &ours)),
        ["-i modify account where name=research cluster=lab set Fairshare=1 QOS= DefaultQOS=-1"]
    );
    let mut back = there();
    let row = back.associations.get_mut(&("research".to_owned(), None)).unwrap();
    (row.fairshare, row.qos, row.default_qos) = ("1".into(), BTreeSet::new(), String::new());
    assert_eq!(lines(&plan(&wish, &back, &ours)), [""; 0]);
    // What is asked for in their place is no taking back.
    wish.accounts[0].qos = BTreeSet::from(["normal".to_owned()]);
    wish.accounts[0].fairshare = Some(7);
    assert_eq!(
        lines(&plan(&wish, &back, &ours)),
        ["-i modify account where name=research cluster=lab set Fairshare=7 QOS=normal"]
    );
}

#[test]
fn what_an_earlier_wish_gave_is_ours_until_all_of_the_next_is_written() {
    let before = sample::cluster();
    let mut next = before.clone();
    next.accounts.pop();
    next.accounts[0].qos.clear();
    next.accounts[0].fairshare = None;
    next.accounts[0].users = BTreeSet::from(["eve".to_owned()]);
    next.accounts[0].coordinators.clear();
    next.qos.clear();
    next.admins.clear();
    let mut both = next.clone();
    remember(&mut both, &before);
    let (old, new, ours) = (Ours::of(&before), Ours::of(&next), Ours::of(&both));
    let user = |account: &str, user: &str| (account.to_owned(), user.to_owned());
    let users = [user("research", "ann"), user("research", "eve"), user("vision", "bob")];
    assert_eq!(ours, Ours { users: users.into(), ..old.clone() });
    assert!(new.users.contains(&user("research", "eve")) && new.account_qos.is_empty());
    let taken = lines(&plan(&next, &there(), &ours));
    assert!(taken.iter().any(|it| it.ends_with("Fairshare=1 QOS=")), "{taken:?}");
    // Once more it is the same.
    let again = both.clone();
    remember(&mut both, &again);
    assert_eq!(both, again);
}
