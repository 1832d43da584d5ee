//! `config`: the daemon's own settings on the host, from `/etc/trueup/config.yaml`.
//!
//! It never reads settings from the environment repository: who may sign, which credentials are
//! used and which host this is are no business of a commit. Secrets themselves never stand in it;
//! it only names the files they are in.

mod error;
mod example;
mod forge;
mod load;
mod settings;
mod size;
mod span;

pub use error::ConfigError;
pub use example::example;
pub use forge::{
    AppSettings, ApprovalSettings, ApproverPermission, ForgeKind, ForgeSettings, ForkPlans,
    ForkSettings, ListenOn, SecretSettings, WebhookSettings,
};
pub use load::{CONFIG_BYTES_MAX, CONFIG_PATH, Found, Source, load, parse, schema};
pub use settings::{
    AcceleratorChoice, AnyProgram, BackupSettings, ClusterSettings, Config, CredentialSettings,
    ExactProgram, GpuSettings, LibvirtSettings, Limits, LogFormat, OpenPgpSettings, PollSettings,
    ProgramRule, ReleasePrograms, RepositorySettings, SignatureSettings, SshKeySettings,
    SshSettings, TelemetrySettings,
};
pub use size::Size;
pub use span::Span;

#[cfg(test)]
mod tests;
