//! Reading, with what has not changed left where it is; and lists of many pages.
//!
//! Pages are asked for by number and never through a link, which would lead past the configured
//! host and, with an app's login, past the login.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::{Call, Client, Method, lock};
use crate::error::ClientError;
use crate::reply::Reply;

/// Most pages of one list: 2,000 items on GitHub, more than anyone looks through.
pub const PAGES_MAX: usize = 20;

/// A list of all pages.
#[derive(Debug, Clone)]
pub struct Listed<T> {
    /// The items in the forge's order. While pages are read things move: an item may be missing or
    /// be there twice.
    pub items: Vec<T>,
    /// Whether every page is what it was before.
    pub unchanged: bool,
    /// Whether there were more than [`PAGES_MAX`] pages; the rest is not in `items`.
    pub cut: bool,
    /// The forge's clock at the first page.
    pub date: Option<Timestamp>,
}

impl Client {
    /// Reads, conditionally where an earlier reply is remembered. A 304 is answered with that one.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn get(&self, path: &str) -> Result<Reply, ClientError> {
        let known = lock(&self.cache).find(path);
        let call = Call {
            if_none_match: known.as_ref().map(|known| known.etag.as_str()),
            ..Call::new(Method::Get, path)
        };
        let mut reply = self.request(call).await?;
        match (reply.status, known) {
            (304, Some(known)) => {
                reply.body = known.body;
                reply.next = known.next;
                reply.unchanged = true;
            }
            (304, None) => {
                let why = "it was answered with 304 although nothing was known".to_owned();
                return Err(ClientError::Unknown { method: Method::Get, path: path.into(), why });
            }
            _ => lock(&self.cache).learn(path, &reply),
        }
        Ok(reply)
    }

    /// Reads every page of a list. `field` names the list in a reply that is an object.
    ///
    /// A full page is followed by a look at the next, whatever its link says: a remembered page
    /// knows nothing of what came after it since.
    ///
    /// # Errors
    /// As [`Client::request`]; a page that is not a list of `T` is [`ClientError::Unknown`].
    pub async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        field: Option<&str>,
    ) -> Result<Listed<T>, ClientError> {
        let mut all = Listed { items: Vec::new(), unchanged: true, cut: false, date: None };
        let joint = if path.contains('?') { '&' } else { '?' };
        let style = self.settings.pages;
        for page in 1..=PAGES_MAX {
            let path = format!("{path}{joint}{}={}&page={page}", style.parameter, style.items);
            let reply = self.get(&path).await?;
            let items: Vec<T> = match field {
                None => reply.json(Method::Get, &path)?,
                Some(field) => {
                    let mut body: Value = reply.json(Method::Get, &path)?;
                    serde_json::from_value(body[field].take()).map_err(|error| {
                        let why = format!("`{field}` in the reply is not as expected: {error}");
                        ClientError::Unknown { method: Method::Get, path: path.clone(), why }
                    })?
                }
            };
            let more = reply.next || items.len() >= style.items;
            all.unchanged &= reply.unchanged;
            all.date = all.date.or(reply.date);
            all.items.extend(items);
            all.cut = more;
            if !more {
                break;
            }
        }
        Ok(all)
    }
}
