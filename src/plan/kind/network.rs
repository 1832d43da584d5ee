//! Networks: leases and DNS records change while they run; everything else needs a restart.

use std::collections::BTreeSet;

use super::super::diff::{Diff, pairs, segment};
use super::super::{Action, Disruption, SkipReason};
use super::{Case, Draft, Verdict};
use crate::model::resource::{Dhcp, Network};

/// What has to be done for a network.
pub(in super::super) fn decide(
    case: &Case<'_, '_>,
    to: &Network,
    from: Option<&Network>,
) -> Verdict {
    let mut verdict = Verdict::default();
    let define = || Action::NetworkDefine { network: to.clone(), uuid: case.uuid() };
    let start = || {
        let reconnect = case.facts.running_on(&case.id.name).map(|vm| vm.name.clone());
        Draft::quiet(
            Action::NetworkStart { reconnect: reconnect.collect() },
            case.reason,
            Vec::new(),
        )
    };
    let (Some(from), Some(seen)) = (from, case.observation) else {
        verdict.step(Draft::quiet(define(), case.reason, Vec::new()));
        verdict.step(start());
        return verdict;
    };
    let config = diff(from, to, seen.active);
    if case.adopting() || !config.changes.is_empty() {
        verdict.step(Draft::quiet(define(), case.reason, config.changes));
    }
    if !seen.active {
        verdict.step(start());
        return verdict;
    }
    let mut live = diff(case.live_network().unwrap_or(from), to, true);
    live.changes.retain(|change| change.disruption > Disruption::None);
    if live.reaches(Disruption::Restart) {
        if !case.facts.window_open {
            verdict.skip(SkipReason::RestartNeeded, live.changes);
            return verdict;
        }
        let mut interrupts = BTreeSet::from([case.id.clone()]);
        for vm in case.facts.running_on(&case.id.name) {
            interrupts.extend(case.facts.interrupted_with(vm));
        }
        verdict.step(
            Draft::quiet(Action::NetworkStop, case.reason, live.changes)
                .disturbing(Disruption::Restart, interrupts),
        );
        verdict.step(start());
    } else if !live.changes.is_empty() {
        let update = Action::NetworkUpdateLive { network: to.clone() };
        verdict.step(
            Draft::quiet(update, case.reason, live.changes)
                .disturbing(Disruption::Live, BTreeSet::new()),
        );
    }
    verdict
}

/// The fields that differ; on a stopped network nothing disturbs.
fn diff(from: &Network, to: &Network, active: bool) -> Diff {
    let at = |disruption| if active { disruption } else { Disruption::None };
    let (restart, live) = (at(Disruption::Restart), at(Disruption::Live));
    let mut diff = Diff::default();
    diff.field(format_args!("/mode"), &from.mode, &to.mode, restart);
    diff.owned(format_args!("/bridge"), &from.bridge, &to.bridge, restart);
    if from.addresses != to.addresses {
        for (address, pair) in pairs(&from.addresses, &to.addresses, |item| item.address) {
            let key = segment(&address.to_string());
            match pair {
                (Some(from), Some(to)) => dhcp(&mut diff, &key, &from.dhcp, &to.dhcp, at),
                (from, to) => diff.push(format_args!("/addresses/{key}"), from, to, restart),
            }
        }
    }
    if let Some(to) = &to.dns
        && from.dns.as_ref() != Some(to)
    {
        let from = from.dns.as_deref().unwrap_or_default();
        for (ip, (from, to)) in pairs(from, to, |record| record.ip) {
            if from != to {
                diff.push(format_args!("/dns/{ip}"), from, to, live);
            }
        }
    }
    diff.owned(format_args!("/domain"), &from.domain, &to.domain, restart);
    diff.owned(format_args!("/mtu"), &from.mtu, &to.mtu, restart);
    diff.field(format_args!("/autostart"), &from.autostart, &to.autostart, Disruption::None);
    diff
}

/// The DHCP service of one address.
fn dhcp(
    diff: &mut Diff,
    key: &str,
    from: &Option<Dhcp>,
    to: &Option<Dhcp>,
    at: impl Fn(Disruption) -> Disruption,
) {
    let restart = at(Disruption::Restart);
    let (Some(from), Some(to)) = (from, to) else {
        diff.optional(format_args!("/addresses/{key}/dhcp"), from, to, restart);
        return;
    };
    let base = format!("/addresses/{key}/dhcp");
    diff.field(format_args!("{base}/ranges"), &from.ranges, &to.ranges, restart);
    if from.hosts != to.hosts {
        for (mac, (from, to)) in pairs(&from.hosts, &to.hosts, |host| host.mac.as_str()) {
            if from != to {
                diff.push(format_args!("{base}/hosts/{mac}"), from, to, at(Disruption::Live));
            }
        }
    }
}
