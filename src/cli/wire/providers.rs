//! The hands: which provider answers for which kind.
//!
//! Every kind has exactly one. A kind that this build has no hand for is unobservable, never absent.

use std::sync::Arc;

use crate::config::Config;
use crate::port::Provider;
use crate::provider::image::ImageProvider;
use crate::provider::seed::SeedProvider;

/// Folder of unfinished downloads, in the state directory.
const DOWNLOADS: &str = "downloads";

/// The hands of this build.
pub(in super::super) struct Hands {
    /// Every provider.
    pub(super) providers: Vec<Arc<dyn Provider>>,
    #[cfg(feature = "libvirt")]
    libvirt: crate::provider::libvirt::LibvirtProvider,
}

impl Hands {
    /// Waits until the machine says that something happened to it, and calls `wake` each time. Never
    /// ends.
    pub(super) async fn wakes(&self, wake: impl Fn()) {
        #[cfg(feature = "libvirt")]
        {
            let mut events = self.libvirt.events();
            while events.next().await == Some(()) {
                wake();
            }
        }
        drop(wake);
        std::future::pending::<()>().await;
    }
}

#[cfg(feature = "libvirt")]
pub(super) async fn hands(config: &Config) -> Hands {
    use crate::provider::libvirt::{LibvirtProvider, Settings};
    use trueup_libvirt::{Client, Options};

    let mut options = Options::new(&config.libvirt.uri);
    options.call_timeout = config.libvirt.call_timeout.duration();
    let client = Client::new(options);
    let libvirt = LibvirtProvider::new(client, Settings::new(kvm(config).await));
    let providers: Vec<Arc<dyn Provider>> =
        vec![Arc::new(libvirt.clone()), Arc::new(images(config)), Arc::new(SeedProvider)];
    Hands { providers, libvirt }
}

#[cfg(not(feature = "libvirt"))]
pub(super) async fn hands(config: &Config) -> Hands {
    let absent = absent::Absent { uri: config.libvirt.uri.clone() };
    let providers: Vec<Arc<dyn Provider>> =
        vec![Arc::new(absent), Arc::new(images(config)), Arc::new(SeedProvider)];
    Hands { providers }
}

fn images(config: &Config) -> ImageProvider {
    ImageProvider::new(config.state_directory().join(DOWNLOADS))
}

/// Whether guests are to run under KVM: as the config says, else what a probe with one of the
/// host's own kernels shows.
#[cfg(feature = "libvirt")]
async fn kvm(config: &Config) -> bool {
    use crate::config::AcceleratorChoice;
    use crate::provider::image::kvm_works;

    match config.accelerator {
        AcceleratorChoice::Kvm => true,
        AcceleratorChoice::Tcg => false,
        AcceleratorChoice::Auto => match host_kernel() {
            Some(kernel) => kvm_works(&kernel).await,
            None => {
                tracing::warn!(
                    "no kernel in /boot to prove KVM with: guests are emulated; set \
                     `accelerator: kvm` where it works"
                );
                false
            }
        },
    }
}

/// A kernel of the host itself; the first by name, so that every start takes the same.
#[cfg(feature = "libvirt")]
fn host_kernel() -> Option<std::path::PathBuf> {
    let entries = std::fs::read_dir("/boot").ok()?;
    let kernels = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let name = path.file_name()?.to_str()?;
        name.starts_with("vmlinuz").then_some(path)
    });
    kernels.min()
}

#[cfg(not(feature = "libvirt"))]
mod absent {
    //! Stands where libvirt would, and knows nothing.

    use crate::model::{Fault, Kind, Observed};
    use crate::plan::Step;
    use crate::port::{BoxFuture, Outcome, Progress, Provider, Scope};

    /// Answers for kinds that this build cannot look at.
    pub(super) struct Absent {
        /// The libvirt that is not looked at.
        pub(super) uri: String,
    }

    impl Absent {
        fn fault(&self) -> Fault {
            Fault::unobservable(format!(
                "this trueup was built without libvirt, so {} cannot be looked at: install a \
                 build with it",
                self.uri
            ))
        }
    }

    impl Provider for Absent {
        fn name(&self) -> &'static str {
            "absent"
        }

        fn kinds(&self) -> &[Kind] {
            &[Kind::StoragePool, Kind::Network, Kind::Disk, Kind::VirtualMachine]
        }

        fn observe<'a>(&'a self, _scope: &'a Scope) -> BoxFuture<'a, Result<Observed, Fault>> {
            Box::pin(async { Err(self.fault()) })
        }

        fn perform<'a>(
            &'a self,
            _step: &'a Step,
            _scope: &'a Scope,
            _progress: Progress,
        ) -> BoxFuture<'a, Result<Outcome, Fault>> {
            Box::pin(async { Err(self.fault()) })
        }
    }
}
