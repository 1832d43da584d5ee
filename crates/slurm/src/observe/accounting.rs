//! What `sacctmgr -nP show` says of accounts, users and qualities of service. Text, because 22.05's
//! JSON leaves out limits (`GrpTRESMins`).

use std::collections::{BTreeMap, BTreeSet};

use super::error::ObserveError;
use crate::wish::Limit;

/// Accounts, users and qualities of service as Slurm has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Accounts by name.
    pub accounts: BTreeMap<String, AccountRow>,
    /// What a cluster lets an account (no user) or a user of it do, by account and user.
    pub associations: BTreeMap<(String, Option<String>), AssociationRow>,
    /// Qualities of service by name.
    pub qos: BTreeMap<String, QosRow>,
    /// What users may do to others' jobs and accounts, in Slurm's words, by user; those who may nothing
    /// of that are not here.
    pub admins: BTreeMap<String, String>,
}

/// An account, whatever the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountRow {
    /// Said of it in reports.
    pub description: String,
    /// Who may change it, those of the accounts above it included.
    pub coordinators: BTreeSet<String>,
}

/// An association of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AssociationRow {
    /// The account above; empty for a user's and for the root's.
    pub parent: String,
    /// Its share.
    pub fairshare: String,
    /// Qualities of service that are set on it.
    pub qos: BTreeSet<String>,
    /// The one for jobs that ask for none; empty where none is set on it.
    pub default_qos: String,
    /// Limits that are set on it; those of the accounts above are not here.
    pub limits: BTreeMap<Limit, String>,
}

/// A quality of service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QosRow {
    /// Added to a job's priority.
    pub priority: u32,
    /// Limits that are set.
    pub limits: BTreeMap<Limit, String>,
}

impl Limit {
    /// The column of `sacctmgr show qos`.
    pub(crate) fn qos_column(self) -> &'static str {
        match self {
            Self::GrpJobs => "GrpJobs",
            Self::GrpTres => "GrpTRES",
            Self::GrpTresMins => "GrpTRESMins",
            Self::MaxWall => "MaxWall",
            Self::MaxJobs => "MaxJobsPU",
            Self::MaxSubmitJobs => "MaxSubmitPU",
            Self::MaxTresPerJob => "MaxTRES",
            Self::MaxTresPerUser => "MaxTRESPU",
            Self::GrpSubmitJobs => "GrpSubmit",
            Self::GrpWall => "GrpWall",
            Self::MaxTresMinsPerJob => "MaxTRESMins",
            Self::MaxTresPerNode => "MaxTRESPerNode",
        }
    }

    /// The column of `sacctmgr show assoc`, where it has one.
    pub(crate) fn association_column(self) -> Option<&'static str> {
        match self {
            Self::GrpJobs => Some("GrpJobs"),
            Self::GrpTres => Some("GrpTRES"),
            Self::GrpTresMins => Some("GrpTRESMins"),
            Self::MaxWall => Some("MaxWall"),
            Self::MaxJobs => Some("MaxJobs"),
            Self::MaxSubmitJobs => Some("MaxSubmit"),
            Self::MaxTresPerJob => Some("MaxTRES"),
            Self::MaxTresPerUser => None,
            Self::GrpSubmitJobs => Some("GrpSubmit"),
            Self::GrpWall => Some("GrpWall"),
            Self::MaxTresMinsPerJob => Some("MaxTRESMins"),
            Self::MaxTresPerNode => Some("MaxTRESPerNode"),
        }
    }

    /// Every limit.
    pub(crate) const ALL: [Self; 12] = [
        Self::GrpJobs,
        Self::GrpTres,
        Self::GrpTresMins,
        Self::MaxWall,
        Self::MaxJobs,
        Self::MaxSubmitJobs,
        Self::MaxTresPerJob,
        Self::MaxTresPerUser,
        Self::GrpSubmitJobs,
        Self::GrpWall,
        Self::MaxTresMinsPerJob,
        Self::MaxTresPerNode,
    ];
}

/// Limits of associations, in the order of their columns.
fn association_limits() -> impl Iterator<Item = (Limit, &'static str)> {
    Limit::ALL.into_iter().filter_map(|limit| Some((limit, limit.association_column()?)))
}

/// `format=` for qualities of service.
pub(crate) fn qos_format() -> String {
    let limits: Vec<&str> = Limit::ALL.into_iter().map(Limit::qos_column).collect();
    format!("format=Name,Priority,{}", limits.join(","))
}

/// `format=` for associations.
pub(crate) fn association_format() -> String {
    let limits: Vec<&str> = association_limits().map(|(_, column)| column).collect();
    format!("format=Account,User,ParentName,Fairshare,QOS,DefaultQOS,{}", limits.join(","))
}

/// `format=` for accounts, asked `withcoord`.
pub(crate) const ACCOUNT_FORMAT: &str = "format=Account,Descr,Coordinators";
/// `format=` for users.
pub(crate) const USER_FORMAT: &str = "format=User,AdminLevel";

impl Accounts {
    /// Reads the four answers.
    ///
    /// # Errors
    /// [`ObserveError::Form`], where a line has too few columns.
    pub fn parse(
        accounts: &str,
        associations: &str,
        qos: &str,
        users: &str,
    ) -> Result<Self, ObserveError> {
        let mut all = Self::default();
        for [name, description, coordinators] in rows("the accounts", accounts)? {
            let row = AccountRow { description, coordinators: words(&coordinators) };
            all.accounts.insert(name, row);
        }
        for [user, level] in rows("the users", users)? {
            if level != "None" {
                all.admins.insert(user, level);
            }
        }
        for row in table("the associations", associations, 6 + association_limits().count())? {
            let user = (!row[1].is_empty()).then(|| row[1].clone());
            let limits =
                association_limits().zip(&row[6..]).map(|((limit, _), value)| (limit, value));
            let one = AssociationRow {
                parent: row[2].clone(),
                fairshare: row[3].clone(),
                qos: words(&row[4]),
                default_qos: row[5].clone(),
                limits: set(limits),
            };
            // Associations of one partition of a user are somebody's fine work, and not ours.
            all.associations.entry((row[0].clone(), user)).or_insert(one);
        }
        for row in table("the qualities of service", qos, 2 + Limit::ALL.len())? {
            let limits = Limit::ALL.into_iter().zip(&row[2..]);
            let one = QosRow { priority: row[1].parse().unwrap_or(0), limits: set(limits) };
            all.qos.insert(row[0].clone(), one);
        }
        Ok(all)
    }
}

fn words(list: &str) -> BTreeSet<String> {
    list.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect()
}

fn set<'a>(limits: impl Iterator<Item = (Limit, &'a String)>) -> BTreeMap<Limit, String> {
    limits.filter(|(_, value)| !value.is_empty()).map(|(limit, of)| (limit, of.clone())).collect()
}

fn table(what: &'static str, text: &str, columns: usize) -> Result<Vec<Vec<String>>, ObserveError> {
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let row: Vec<String> = line.split('|').map(str::to_owned).collect();
        if row.len() != columns {
            let message = format!("{} columns in place of {columns}: {line}", row.len());
            return Err(ObserveError::Form { what, message });
        }
        rows.push(row);
    }
    Ok(rows)
}

fn rows<const N: usize>(what: &'static str, text: &str) -> Result<Vec<[String; N]>, ObserveError> {
    let rows = table(what, text, N)?;
    Ok(rows.into_iter().filter_map(|row| row.try_into().ok()).collect())
}
