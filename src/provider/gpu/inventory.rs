//! Every GPU of the machine as it is now, for people who ask: also those that no layout is for.

use super::behind_port::GpuProvider;
use super::hidden::Hidden;
use super::host::Host;
use super::look;
use crate::model::{FailedGpu, Fault, FoundGpu, GpuCard, GpuDevice, GpuInventory};
use trueup_mig::{Placed, ProfileId};
use trueup_nvml::{Gpu, GpuInstance, GpuRecord, Observation};

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

impl GpuProvider {
    /// Looks at every GPU. It changes nothing.
    ///
    /// # Errors
    /// `Fault::Unobservable` where the driver does not answer, which is not the same as no GPUs.
    pub async fn inventory(&self) -> Result<GpuInventory, Fault> {
        let seen = self.inner.worker.ask(|session| session.with(trueup_nvml::Client::observe));
        let seen = seen.await?.map_err(|error| Fault::unobservable(error.to_string()))?;
        let host = self.inner.host.clone();
        let listed = tokio::task::spawn_blocking(move || inventory(&seen, &host)).await;
        listed.map_err(|error| Fault::unobservable(format!("the GPUs were not read: {error}")))
    }
}

fn inventory(seen: &Observation, host: &Host) -> GpuInventory {
    let (hidden, co_owners) = (host.hidden(), host.co_owners());
    let one = |gpu: &Gpu| match gpu {
        Gpu::Present(record) => match card(record, seen, host, &hidden, &co_owners) {
            Ok(card) => FoundGpu::Present(Box::new(card)),
            Err(why) => FoundGpu::Failed(FailedGpu {
                index: record.index,
                uuid: Some(record.identity.uuid.clone()),
                pci: Some(record.identity.pci.clone()),
                why,
            }),
        },
        Gpu::Failed(failed) => FoundGpu::Failed(FailedGpu {
            index: failed.index,
            uuid: failed.identity.as_ref().map(|it| it.uuid.clone()),
            pci: failed.identity.as_ref().map(|it| it.pci.clone()),
            why: failed.error.clone(),
        }),
    };
    GpuInventory { driver: seen.driver.clone(), gpus: seen.gpus.iter().map(one).collect() }
}

fn card(
    record: &GpuRecord,
    seen: &Observation,
    host: &Host,
    hidden: &Hidden,
    co_owners: &[String],
) -> Result<GpuCard, String> {
    Ok(GpuCard {
        index: record.index,
        pci_device: record.pci_device,
        vbios: record.vbios.clone(),
        memory_mib: record.memory.map(|memory| (memory.total / MIB, memory.used / MIB)),
        state: look::state(record, seen, None, &[], host, hidden, co_owners)?,
        devices: record.instances.iter().map(device).collect(),
        health: record.health.clone(),
        unread: record.unread.iter().map(|unread| unread.error.clone()).collect(),
    })
}

fn device(instance: &GpuInstance) -> GpuDevice {
    let mut compute: Vec<_> = instance.compute.iter().collect();
    compute.sort_by_key(|it| it.placement.start);
    GpuDevice {
        instance: Placed {
            profile: ProfileId(instance.profile.0),
            start: instance.placement.start,
        },
        uuids: compute.into_iter().map(|it| it.uuid.clone()).collect(),
        utilization: instance.utilization,
    }
}
