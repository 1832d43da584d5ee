//! Who may what, asked of the forge and answered to people.
//!
//! Nobody is asked about more often than needed, and a crowd of strangers costs no more than a few
//! questions a turn.

use std::collections::BTreeMap;
use std::time::Duration;

use super::turn::{Follower, REFUSED_WAIT};
use crate::config::{ApprovalSettings, ApproverPermission};
use crate::forge::ensure;
use crate::port::JournalFault;
use crate::port::forge::{Comment, ForgeError, ForgeFault, Permission, User};

/// Questions about people in one turn: a crowd of strangers costs no more than that.
const ASKED_MAX: usize = 20;
/// Answers to mistakes in one turn.
const ANSWERS_MAX: usize = 3;
/// Longest name taken over, in characters; forges allow fewer.
const LOGIN_CHARS_MAX: usize = 100;

/// What was asked about people, and what cannot be read at all.
#[derive(Debug, Default)]
pub(super) struct People {
    /// What people may, as far as it was asked in this turn.
    asked: BTreeMap<String, bool>,
    questions: usize,
    answers: usize,
    /// What cannot be read, and until when it is not tried.
    deaf: BTreeMap<&'static str, Duration>,
}

impl People {
    /// What people may is asked anew in each turn.
    pub(super) fn begin_turn(&mut self) {
        self.asked.clear();
        (self.questions, self.answers) = (0, 0);
    }
}

/// Why hearing stopped before its end.
pub(super) enum Unheard {
    /// The forge does not answer now.
    Forge(ForgeError),
    /// The log cannot be written.
    Journal(JournalFault),
    /// Enough for one turn.
    Later,
}

impl From<JournalFault> for Unheard {
    fn from(fault: JournalFault) -> Self {
        Self::Journal(fault)
    }
}

impl Follower {
    /// Whether somebody may approve: is named, has the permission, or is in a team.
    pub(super) async fn may(
        &mut self,
        settings: &ApprovalSettings,
        who: &User,
    ) -> Result<bool, Unheard> {
        if settings.by.iter().any(|name| name.eq_ignore_ascii_case(&who.login)) {
            return Ok(true);
        }
        if let Some(known) = self.memory.heard.people.asked.get(&who.login) {
            return Ok(*known);
        }
        let mut may = false;
        if let Some(least) = settings.permission {
            self.question()?;
            let seen = self.forge.permission(&who.login).await;
            let least = match least {
                ApproverPermission::Write => Permission::Write,
                ApproverPermission::Maintain => Permission::Maintain,
                ApproverPermission::Admin => Permission::Admin,
            };
            may = self.audible("permissions", seen)?.is_some_and(|seen| seen >= least);
        }
        for team in &settings.teams {
            if may {
                break;
            }
            self.question()?;
            let member = self.forge.in_team(team, &who.login).await;
            may = self.audible("teams", member)?.unwrap_or_default();
        }
        self.memory.heard.people.asked.insert(who.login.clone(), may);
        Ok(may)
    }

    fn question(&mut self) -> Result<(), Unheard> {
        self.memory.heard.people.questions += 1;
        if self.memory.heard.people.questions > ASKED_MAX { Err(Unheard::Later) } else { Ok(()) }
    }

    /// Answers a comment, once: the answer is found by its marker. Hosts that speak with one account
    /// answer once between them.
    pub(super) async fn answer(&mut self, comment: &Comment, text: &str) -> Result<(), Unheard> {
        self.memory.heard.people.answers += 1;
        if self.memory.heard.people.answers > ANSWERS_MAX {
            return Ok(());
        }
        let marker = format!("<!-- trueup:answer:{} -->", comment.id.0);
        let body = format!("{marker}\n{text}");
        let pace = self.pace();
        let said =
            ensure::comment(self.forge.as_ref(), &pace, comment.number, &marker, &body).await;
        self.audible("answers", said)?;
        Ok(())
    }

    pub(super) fn is_deaf(&self, what: &'static str) -> bool {
        let now = self.clock.monotonic();
        self.memory.heard.people.deaf.get(what).is_some_and(|until| *until > now)
    }

    /// `None`: it cannot be read, and trying again would not help.
    pub(super) fn audible<T>(
        &mut self,
        what: &'static str,
        read: Result<T, ForgeError>,
    ) -> Result<Option<T>, Unheard> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.passes() || error.fault == ForgeFault::Unauthorised => {
                Err(Unheard::Forge(error))
            }
            Err(error) => {
                if !self.is_deaf(what) {
                    tracing::warn!(what, %error, "approvals on the forge cannot be read");
                }
                let until = self.clock.monotonic() + REFUSED_WAIT;
                self.memory.heard.people.deaf.insert(what, until);
                Ok(None)
            }
        }
    }
}

/// A page for people, where the forge gives one that looks like it.
pub(super) fn web_page(url: &str) -> Option<String> {
    const URL_CHARS_MAX: usize = 500;
    let fits = url.starts_with("https://") && url.len() <= URL_CHARS_MAX;
    (fits && url.chars().all(|c| c.is_ascii_graphic())).then(|| url.to_owned())
}

/// Apps on GitHub have this at the end of their names, and nobody else can.
pub(super) fn is_bot(user: &User) -> bool {
    user.login.ends_with("[bot]")
}

/// The name as it is kept: without anything that is not part of one.
pub(super) fn login(user: &User) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || "-_.[]".contains(*c);
    user.login.chars().filter(plain).take(LOGIN_CHARS_MAX).collect()
}
