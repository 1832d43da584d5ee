//! Names of Git objects, told apart by what they name.
//!
//! An id here is never abbreviated and never a branch name.

use std::fmt;
use std::str::FromStr;

/// The text was not the 40 hexadecimal digits of a SHA-1 object name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a full Git object id (40 hexadecimal digits)")]
pub struct BadId {
    /// What was given.
    pub text: String,
}

macro_rules! object_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 20]);

        impl $name {
            /// The 20 bytes of the SHA-1 name.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 20] {
                &self.0
            }

            /// The first eight digits, for people.
            #[must_use]
            pub fn short(&self) -> String {
                hex::encode(&self.0[..4])
            }

            pub(crate) fn from_gix(id: gix::ObjectId) -> Self {
                let mut bytes = [0; 20];
                bytes.copy_from_slice(id.as_slice());
                Self(bytes)
            }

            pub(crate) fn to_gix(self) -> gix::ObjectId {
                gix::ObjectId::from(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                let mut bytes = [0; 20];
                hex::decode_to_slice(text, &mut bytes)
                    .map_err(|_| BadId { text: text.to_owned() })?;
                Ok(Self(bytes))
            }
        }
    };
}

object_id! {
    /// Names a commit.
    CommitId
}
object_id! {
    /// Names the content of a file; equal ids are equal bytes, so parsed documents are cached by it.
    BlobId
}
object_id! {
    /// Names a directory at a commit.
    TreeId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_and_refuses_the_rest() {
        let text = "0123456789abcdef0123456789abcdef01234567";
        let id: CommitId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.short(), "01234567");
        assert_eq!(CommitId::from_gix(id.to_gix()), id);
        for bad in ["", "0123", "main", &text[1..], "z123456789abcdef0123456789abcdef01234567"] {
            assert!(bad.parse::<BlobId>().is_err(), "{bad} must be refused");
        }
    }
}
