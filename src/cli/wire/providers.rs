//! The hands: which provider answers for which kind.
//!
//! A kind that this build has no hand for is unobservable, never absent.

use std::sync::Arc;

use crate::config::Config;
use crate::port::Provider;
use crate::provider::image::ImageProvider;
use crate::provider::seed::SeedProvider;

pub(in super::super) use libvirt::Wakes;

/// Every provider of this build, and what wakes the loop. Every kind has exactly one provider.
pub(super) fn all(config: &Config) -> (Vec<Arc<dyn Provider>>, Wakes) {
    let (machine, wakes) = libvirt::hand(config);
    let downloads = config.state_directory().join("downloads");
    let providers: Vec<Arc<dyn Provider>> =
        vec![machine, Arc::new(ImageProvider::new(downloads)), Arc::new(SeedProvider)];
    (providers, wakes)
}

#[cfg(feature = "libvirt")]
mod libvirt {
    //! With libvirt: one client for the life of the loop.

    use std::path::PathBuf;
    use std::sync::Arc;

    use trueup_libvirt::{Client, Options};

    use crate::config::{AcceleratorChoice, Config};
    use crate::model::{Fault, Kind, Observed};
    use crate::plan::Step;
    use crate::port::{BoxFuture, Outcome, Progress, Provider, Scope};
    use crate::provider::image::kvm_works;
    use crate::provider::libvirt::{LibvirtProvider, Settings};

    /// The kinds of the libvirt provider.
    const KINDS: &[Kind] = &[Kind::StoragePool, Kind::Network, Kind::Disk, Kind::VirtualMachine];

    /// The libvirt provider for whatever environment the commit in force is of: which one that is,
    /// is known only when a commit was read.
    struct Hand {
        client: Client,
        accelerator: AcceleratorChoice,
    }

    /// What libvirt reports.
    pub(in super::super::super) struct Wakes(Client);

    pub(super) fn hand(config: &Config) -> (Arc<dyn Provider>, Wakes) {
        let mut options = Options::new(&config.libvirt.uri);
        options.call_timeout = config.libvirt.call_timeout.duration();
        let client = Client::new(options);
        let wakes = Wakes(client.clone());
        (Arc::new(Hand { client, accelerator: config.accelerator }), wakes)
    }

    impl Wakes {
        /// Calls `wake` for everything libvirt reports from now on. Ends with the client.
        pub(in super::super::super) async fn each(self, wake: impl Fn()) {
            let mut events = self.0.events();
            while events.next().await.is_some() {
                wake();
            }
        }
    }

    impl Hand {
        async fn provider(&self, scope: &Scope) -> LibvirtProvider {
            let kvm = match self.accelerator {
                AcceleratorChoice::Kvm => true,
                AcceleratorChoice::Tcg => false,
                AcceleratorChoice::Auto => match kernel() {
                    Some(kernel) => kvm_works(&kernel).await,
                    None => false,
                },
            };
            let environment = scope.desired.environment.clone();
            LibvirtProvider::new(self.client.clone(), Settings::new(environment, kvm))
        }
    }

    /// A kernel to prove KVM with: the running one's file, or any other that is installed.
    fn kernel() -> Option<PathBuf> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let running = PathBuf::from(format!("/boot/vmlinuz-{release}"));
        if running.is_file() {
            return Some(running);
        }
        let installed = std::fs::read_dir("/boot").ok()?.filter_map(Result::ok);
        let kernels = installed.map(|entry| entry.path()).filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
        });
        kernels.max()
    }

    impl Provider for Hand {
        fn name(&self) -> &'static str {
            "libvirt"
        }

        fn kinds(&self) -> &[Kind] {
            KINDS
        }

        fn observe<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Observed, Fault>> {
            Box::pin(async move { self.provider(scope).await.observe(scope).await })
        }

        fn perform<'a>(
            &'a self,
            step: &'a Step,
            scope: &'a Scope,
            progress: Progress,
        ) -> BoxFuture<'a, Result<Outcome, Fault>> {
            Box::pin(async move { self.provider(scope).await.perform(step, scope, progress).await })
        }
    }
}

#[cfg(not(feature = "libvirt"))]
mod libvirt {
    //! Without libvirt: its kinds cannot be looked at.

    use std::sync::Arc;

    use crate::config::Config;
    use crate::model::{Fault, Kind, Observed};
    use crate::plan::Step;
    use crate::port::{BoxFuture, Outcome, Progress, Provider, Scope};

    /// Answers for kinds that this build cannot look at.
    struct Absent {
        uri: String,
    }

    /// Nothing ever reports.
    pub(in super::super::super) struct Wakes;

    pub(super) fn hand(config: &Config) -> (Arc<dyn Provider>, Wakes) {
        (Arc::new(Absent { uri: config.libvirt.uri.clone() }), Wakes)
    }

    impl Wakes {
        /// Never calls `wake` and never ends.
        pub(in super::super::super) async fn each(self, _wake: impl Fn()) {
            std::future::pending::<()>().await;
        }
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
            "libvirt"
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
