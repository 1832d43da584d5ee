//! The JSON Schemas of names, ids and digests: texts of a given form.
//!
//! Written by hand, since these types are texts outside and checked values inside.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{CommitId, Digest, Name, ResourceId};

macro_rules! text_schema {
    ($type:ident, $about:literal, $pattern:literal) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $about, "pattern": $pattern })
            }
        }
    };
}

text_schema!(Digest, "A SHA-256 digest.", "^[0-9a-f]{64}$");
text_schema!(Name, "A name: 1 to 63 of a-z, 0-9 and `-`.", "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$");
text_schema!(CommitId, "A Git commit id.", "^([0-9a-f]{40}|[0-9a-f]{64})$");
text_schema!(
    ResourceId,
    "A resource, as `kind/name`: `vm/web`.",
    "^(pool|network|image|disk|seed|vm)/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
);
