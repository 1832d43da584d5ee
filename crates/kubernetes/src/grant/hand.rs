//! Access given and taken. Each call can be repeated, and looks anew first.

use serde_json::Value;

use super::{Found, Giver, Grant, HOME, HOME_MARK, LOG, MARK, Token, accounts, bindings, home};
use crate::api::{Api, Apply};
use crate::fault::Fault;
use crate::key::{Kind, ObjectKey};

/// Why access was not given.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The server.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The namespace of the accounts is somebody else's.
    #[error(
        "the namespace {0} is not trueup's, and whoever has rights in it could make tokens for the accounts: remove it, or label it `{MARK}: {HOME_MARK}` where nobody has"
    )]
    HomeTaken(String),
    /// Somebody else's object has the name.
    #[error("{0} is somebody else's: nothing is given under that name")]
    Taken(ObjectKey),
}

/// Who gives access to one cluster, and takes it.
#[derive(Debug, Clone)]
pub struct Grants {
    api: Api,
    giver: Giver,
    home: String,
}

impl Grants {
    /// For the cluster behind `api`.
    pub fn new(api: Api, giver: Giver) -> Self {
        Self { api, giver, home: HOME.to_owned() }
    }

    /// With the accounts in another namespace.
    #[must_use]
    pub fn at(self, home: &str) -> Self {
        Self { home: home.to_owned(), ..self }
    }

    /// Makes what gives somebody access. What is there under its name is removed first, and with it all
    /// tokens of it: nobody knows of it.
    ///
    /// # Errors
    /// [`GrantError`]; something may have been made.
    pub async fn give(&self, grant: &Grant) -> Result<(), GrantError> {
        self.homed().await?;
        let account = grant.account(&self.giver, &self.home);
        let binding = grant.binding(&self.giver, &self.home);
        for (kind, object) in [(accounts(), account), (bindings(), binding)] {
            let of = self.api.resource(&kind).await?;
            let Some(key) = ObjectKey::of(&object) else { continue };
            if let Some(old) = self.api.get(&of, &key).await? {
                let labels = old.pointer("/metadata/labels");
                let label =
                    |name: &str| labels.and_then(|all| all.get(name)).and_then(Value::as_str);
                let Giver { cluster, log } = &self.giver;
                if (label(MARK), label(LOG)) != (Some(cluster.as_str()), Some(log.as_str())) {
                    return Err(GrantError::Taken(key));
                }
                self.api.delete(&of, &key, uid(&old)).await?;
            }
            self.api.apply(&of, &key, &object, Apply { force: true, dry_run: false }).await?;
        }
        Ok(())
    }

    /// Sees to the namespace of the accounts.
    async fn homed(&self) -> Result<(), GrantError> {
        let of = self.api.resource(&Kind::new("", "v1", "Namespace")).await?;
        let key = ObjectKey::new("", "Namespace", None, &self.home);
        match self.api.get(&of, &key).await? {
            Some(there) => {
                let label = there.pointer("/metadata/labels").and_then(|all| all.get(MARK));
                match label.and_then(Value::as_str) {
                    Some(HOME_MARK) => Ok(()),
                    _ => Err(GrantError::HomeTaken(self.home.clone())),
                }
            }
            None => {
                let how = Apply { force: true, dry_run: false };
                self.api.apply(&of, &key, &home(&self.home), how).await?;
                Ok(())
            }
        }
    }

    /// A token for what was given, for so many seconds.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn token(&self, grant: &Grant, seconds: u64) -> Result<Token, Fault> {
        self.api.token(&self.home, &grant.name(&self.giver), seconds).await
    }

    /// Removes what gives somebody access. What is gone already, or another of its name by now, is no
    /// error. Whether anything was there.
    ///
    /// # Errors
    /// [`Fault`]; something may have been removed.
    pub async fn take(&self, found: &Found) -> Result<bool, Fault> {
        let mut any = false;
        for part in &found.parts {
            let version = if part.key.kind == "ServiceAccount" { accounts() } else { bindings() };
            let of = self.api.resource(&version).await?;
            any |= self.api.delete(&of, &part.key, &part.uid).await?;
        }
        Ok(any)
    }
}

fn uid(object: &Value) -> &str {
    object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default()
}
