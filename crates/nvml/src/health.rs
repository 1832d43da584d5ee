//! Sensors and counters of one GPU.

use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::enum_wrappers::nv_link::ErrorCounter;
use nvml_wrapper_sys::bindings::NVML_NVLINK_MAX_LINKS;

use crate::error::{Code, Error};
use crate::observe::Reader;
use crate::raw;
use crate::record::{EccCounts, Health, NvLink, Recovery, RemappedRows};

/// Reads what there is.
///
/// # Errors
///
/// The GPU or the driver is gone.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Health, Error> {
    let nvml = &reader.client.nvml;
    let device = reader.device;
    let ecc = reader.maybe("nvmlDeviceGetEccMode", |gpu| gpu.is_ecc_enabled())?;
    let (counted, since_ever) = (EccCounter::Volatile, EccCounter::Aggregate);
    let has_ecc = ecc.is_some();
    let rows = reader.optional(raw::remapped_rows(nvml, device))?;
    let utilization =
        reader.maybe("nvmlDeviceGetUtilizationRates", |gpu| gpu.utilization_rates())?;
    let recovery = reader.optional(raw::recovery_action(nvml, device))?;
    Ok(Health {
        recovery: recovery.flatten().map(Recovery::of),
        ecc: ecc.map(|mode| (mode.currently_enabled, mode.pending_enabled)),
        ecc_volatile: if has_ecc { ecc_counts(reader, counted)? } else { None },
        ecc_aggregate: if has_ecc { ecc_counts(reader, since_ever)? } else { None },
        retired_pages: retired_pages(reader)?,
        retirement_pending: reader.maybe("nvmlDeviceGetRetiredPagesPendingStatus", |gpu| {
            gpu.are_pages_pending_retired()
        })?,
        remapped_rows: rows.map(|[corrected, uncorrected, pending, failed]| RemappedRows {
            corrected,
            uncorrected,
            pending: pending != 0,
            failed: failed != 0,
        }),
        temperature: reader
            .maybe("nvmlDeviceGetTemperature", |gpu| gpu.temperature(TemperatureSensor::Gpu))?,
        power: reader.maybe("nvmlDeviceGetPowerUsage", |gpu| gpu.power_usage())?,
        power_limit: reader
            .maybe("nvmlDeviceGetEnforcedPowerLimit", |gpu| gpu.enforced_power_limit())?,
        sm_clock: reader.maybe("nvmlDeviceGetClockInfo", |gpu| gpu.clock_info(Clock::SM))?,
        memory_clock: reader
            .maybe("nvmlDeviceGetClockInfo", |gpu| gpu.clock_info(Clock::Memory))?,
        clock_reasons: reader.optional(raw::clock_reasons(nvml, device))?,
        utilization: utilization.as_ref().map(|rates| rates.gpu),
        memory_utilization: utilization.as_ref().map(|rates| rates.memory),
        nvlinks: nvlinks(reader)?,
    })
}

fn ecc_counts(reader: &mut Reader<'_>, counter: EccCounter) -> Result<Option<EccCounts>, Error> {
    let function = "nvmlDeviceGetTotalEccErrors";
    let corrected =
        reader.maybe(function, |gpu| gpu.total_ecc_errors(MemoryError::Corrected, counter))?;
    let uncorrected =
        reader.maybe(function, |gpu| gpu.total_ecc_errors(MemoryError::Uncorrected, counter))?;
    let both = corrected.zip(uncorrected);
    Ok(both.map(|(corrected, uncorrected)| EccCounts { corrected, uncorrected }))
}

fn retired_pages(reader: &mut Reader<'_>) -> Result<Option<(u32, u32)>, Error> {
    let nvml = &reader.client.nvml;
    let corrected = reader.optional(raw::retired_pages(nvml, reader.device, 0))?;
    let uncorrected = reader.optional(raw::retired_pages(nvml, reader.device, 1))?;
    Ok(corrected.zip(uncorrected))
}

/// Links are numbered without gaps; the first that does not exist ends them.
fn nvlinks(reader: &mut Reader<'_>) -> Result<Vec<NvLink>, Error> {
    let mut links = Vec::new();
    for link in 0..NVML_NVLINK_MAX_LINKS {
        let state = reader.wrapped().link_wrapper_for(link).is_active();
        let state = state.map_err(|error| Error::wrapped("nvmlDeviceGetNvLinkState", error));
        let none =
            |error: &Error| error.code() == Some(Code::InvalidArgument) || error.is_unsupported();
        if state.as_ref().is_err_and(none) {
            break;
        }
        let Some(active) = reader.optional(state)? else { continue };
        let mut count = |counter: ErrorCounter| {
            reader.maybe("nvmlDeviceGetNvLinkErrorCounter", |gpu| {
                gpu.link_wrapper_for(link).error_counter(counter)
            })
        };
        links.push(NvLink {
            link,
            active,
            replay_errors: count(ErrorCounter::DlReplay)?,
            recovery_errors: count(ErrorCounter::DlRecovery)?,
            crc_errors: count(ErrorCounter::DlCrcFlit)?,
        });
    }
    Ok(links)
}
