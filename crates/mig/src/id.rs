//! Numbers that NVML gives to things, each of a type of its own.
//!
//! Zero is a valid profile id, enum index, instance id and start alike, so a mix-up would be
//! silent; here it does not compile. None of these is an identity over time: what an instance is,
//! is its GPU, its profile id and its start ([`crate::Placed`]).

use serde::{Deserialize, Serialize};

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

numbers! {
    /// Profile id of a GPU instance (19, 14, 9 …): what placements, creation and listing take.
    /// It differs between boards for the same shape.
    ProfileId;
    /// Index into NVML's enumeration of profiles (`NVML_GPU_INSTANCE_PROFILE_*`): what the calls
    /// for profile info take.
    ProfileIndex;
    /// Id of a living GPU instance. The driver chooses it, and differently on equal boards.
    InstanceId;
    /// Profile id of a compute instance within a GPU instance.
    ComputeProfileId;
    /// Id of a living compute instance within its GPU instance.
    ComputeInstanceId;
}
