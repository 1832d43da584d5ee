//! Calls about domains: what there is, definition and life. `change` holds the rest.

mod change;

use std::collections::{HashMap, HashSet};
use std::ptr;

use virt::connect::Connect;
use virt::domain::Domain;
use virt_sys as sys;

use crate::client::{Client, Listing, Schema};
use crate::error::{Code, Error};
use crate::text;

/// `virDomainState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunState {
    /// It runs.
    Running,
    /// It waits for a resource.
    Blocked,
    /// It is paused, by somebody or by an error; the reason says which.
    Paused,
    /// It is on its way down.
    ShuttingDown,
    /// It is off.
    ShutOff,
    /// It crashed.
    Crashed,
    /// The guest put itself to sleep.
    Suspended,
    /// libvirt does not know, or said a number that this crate does not know.
    Unknown,
}

impl RunState {
    fn of(number: u32) -> RunState {
        match number {
            sys::VIR_DOMAIN_RUNNING => RunState::Running,
            sys::VIR_DOMAIN_BLOCKED => RunState::Blocked,
            sys::VIR_DOMAIN_PAUSED => RunState::Paused,
            sys::VIR_DOMAIN_SHUTDOWN => RunState::ShuttingDown,
            sys::VIR_DOMAIN_SHUTOFF => RunState::ShutOff,
            sys::VIR_DOMAIN_CRASHED => RunState::Crashed,
            sys::VIR_DOMAIN_PMSUSPENDED => RunState::Suspended,
            _ => RunState::Unknown,
        }
    }
}

/// A domain as libvirt has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainRecord {
    /// Its name.
    pub name: String,
    /// Its UUID, in the usual form.
    pub uuid: String,
    /// Its state.
    pub state: RunState,
    /// It has a running emulator.
    pub active: bool,
    /// It outlives its stop.
    pub persistent: bool,
    /// It starts with libvirtd.
    pub autostart: bool,
    /// Its memory is saved on disk, to go on from at its next start.
    pub has_managed_save: bool,
    /// The stored form, without secrets; that of a domain which is not persistent is its live one.
    pub inactive_xml: String,
    /// The live form, of an active domain, without secrets.
    pub live_xml: Option<String>,
}

/// How a guest is asked to shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ShutdownMode {
    /// As the driver thinks best.
    Default,
    /// By the power button.
    Acpi,
    /// By the guest agent.
    Agent,
}

/// Whom to ask for a guest's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressSource {
    /// The DHCP server of libvirt's network; it may still know addresses of an earlier guest.
    Lease,
    /// The guest agent.
    Agent,
    /// The host's neighbour table.
    Arp,
}

/// A network interface of a guest, as the guest or its host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestInterface {
    /// The guest's name for it, or the host's.
    pub name: String,
    /// MAC address; empty where it has none.
    pub mac: String,
    /// Its addresses.
    pub addresses: Vec<Address>,
}

/// An IP address of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: String,
    /// Length of its network's prefix.
    pub prefix: u32,
}

fn filtered(conn: &Connect, filter: u32) -> Result<HashSet<String>, Error> {
    let domains = conn.list_all_domains(filter)?;
    domains.iter().map(|d| Ok(d.get_uuid_string()?)).collect()
}

fn list(conn: &Connect) -> Result<Listing<DomainRecord>, Error> {
    let domains = conn.list_all_domains(0)?;
    let persistent = filtered(conn, sys::VIR_CONNECT_LIST_DOMAINS_PERSISTENT)?;
    let autostart = filtered(conn, sys::VIR_CONNECT_LIST_DOMAINS_AUTOSTART)?;
    let saved = filtered(conn, sys::VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE)?;
    let states = states(conn)?;
    let mut listing = Listing::with_capacity(domains.len());
    for domain in &domains {
        let name = domain.get_name()?;
        let state = states.get(&domain.get_uuid_string()?).copied();
        let record = read(domain, state).map(|mut record| {
            record.persistent = persistent.contains(&record.uuid);
            record.autostart = autostart.contains(&record.uuid);
            record.has_managed_save = saved.contains(&record.uuid);
            record
        });
        listing.file(&name, record)?;
    }
    Ok(listing)
}

/// The states of the domains that are in one of the usual three: three questions for all, in place
/// of one for each. One that changes meanwhile may be missing, or be told as it was a moment ago.
fn states(conn: &Connect) -> Result<HashMap<String, RunState>, Error> {
    let usual = [
        (sys::VIR_CONNECT_LIST_DOMAINS_SHUTOFF, RunState::ShutOff),
        (sys::VIR_CONNECT_LIST_DOMAINS_PAUSED, RunState::Paused),
        (sys::VIR_CONNECT_LIST_DOMAINS_RUNNING, RunState::Running),
    ];
    let mut states = HashMap::new();
    for (filter, state) in usual {
        states.extend(filtered(conn, filter)?.into_iter().map(|uuid| (uuid, state)));
    }
    Ok(states)
}

/// A domain without what the lists say (persistent, autostart, saved); it is asked for its state
/// where that is not known yet.
fn read(domain: &Domain, state: Option<RunState>) -> Result<DomainRecord, Error> {
    let state = match state {
        Some(state) => state,
        // `Domain::get_state` of this `virt` checks its result; the one of 0.5 does not.
        None => RunState::of(domain.get_state()?.0),
    };
    let inactive_xml = domain.get_xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)?;
    // The handle carries its id since it was looked up, so the two forms cost one question each.
    let active = domain.get_id().is_some() && state != RunState::ShutOff;
    let live_xml = if active { Some(domain.get_xml_desc(0)?) } else { None };
    Ok(DomainRecord {
        name: domain.get_name()?,
        uuid: domain.get_uuid_string()?,
        state,
        active,
        persistent: false,
        autostart: false,
        has_managed_save: false,
        inactive_xml,
        live_xml,
    })
}

fn record(conn: &Connect, name: &str) -> Result<DomainRecord, Error> {
    let domain = Domain::lookup_by_name(conn, name)?;
    let mut record = read(&domain, None)?;
    record.persistent = domain.is_persistent()?;
    record.autostart = domain.get_autostart()?;
    record.has_managed_save = domain.has_managed_save(0)?;
    Ok(record)
}

fn undefine(domain: &Domain, keep_nvram: bool) -> Result<(), Error> {
    let nvram = if keep_nvram {
        sys::VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
    } else {
        sys::VIR_DOMAIN_UNDEFINE_NVRAM
    };
    let everything = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        | nvram;
    match domain.undefine_flags(everything).map_err(Error::from) {
        // A driver that lacks one of the flags says "unsupported flags", and has no such state.
        Err(e) if matches!(e.code, Code::InvalidArgument | Code::NoSupport) => {
            Ok(domain.undefine()?)
        }
        other => other,
    }
}

fn interfaces(domain: &Domain, source: AddressSource) -> Result<Vec<GuestInterface>, Error> {
    let source = match source {
        AddressSource::Lease => sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
        AddressSource::Agent => sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT,
        AddressSource::Arp => sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
    };
    let mut list: *mut sys::virDomainInterfacePtr = ptr::null_mut();
    // Not `Domain::interface_addresses`: it reads the MAC of an interface that has none.
    // SAFETY: the domain is valid; libvirt fills `list` with an array of as many pointers as it
    // returns, all ours to free.
    let count =
        unsafe { sys::virDomainInterfaceAddresses(domain.as_ptr(), &raw mut list, source, 0) };
    let count = usize::try_from(count).map_err(|_| Error::last())?;
    let mut interfaces = Vec::with_capacity(count);
    for n in 0..count {
        // SAFETY: `n` is within the array; the interface, its texts and its `naddrs` addresses are
        // valid until freed here, and each is freed once.
        unsafe {
            let interface = *list.add(n);
            let addresses = (0..(*interface).naddrs as usize).map(|a| {
                let address = (*interface).addrs.add(a);
                Address { address: text::copy((*address).addr), prefix: (*address).prefix }
            });
            interfaces.push(GuestInterface {
                addresses: addresses.collect(),
                name: text::copy((*interface).name),
                mac: text::copy((*interface).hwaddr),
            });
            sys::virDomainInterfaceFree(interface);
        }
    }
    // SAFETY: the array was allocated by libvirt for the caller to free; free accepts null.
    unsafe { libc::free(list.cast()) };
    Ok(interfaces)
}

/// What there is.
impl Client {
    /// All domains.
    ///
    /// # Errors
    ///
    /// When libvirt does not answer; a single unreadable domain is in the listing's `failed`.
    pub async fn domains(&self) -> Result<Listing<DomainRecord>, Error> {
        self.call("domains", "", &[], list).await
    }

    /// One domain.
    ///
    /// # Errors
    ///
    /// [`Code::NoDomain`] where there is none of that name.
    pub async fn domain(&self, name: &str) -> Result<DomainRecord, Error> {
        let owned = name.to_owned();
        self.call("domain", name, &[], move |conn| record(conn, &owned)).await
    }

    /// The stored form of a domain with its secrets (passwords of displays), which a new form must
    /// repeat or lose. Never to be logged or kept.
    ///
    /// # Errors
    ///
    /// [`Code::NoDomain`] where there is none of that name.
    pub async fn domain_xml_with_secrets(&self, name: &str) -> Result<String, Error> {
        let owned = name.to_owned();
        self.call("domain_xml_with_secrets", name, &[], move |conn| {
            let flags = sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_SECURE;
            Ok(Domain::lookup_by_name(conn, &owned)?.get_xml_desc(flags)?)
        })
        .await
    }

    /// The network interfaces of a running guest.
    ///
    /// # Errors
    ///
    /// [`Code::OperationInvalid`] where it does not run; [`Code::AgentUnresponsive`].
    pub async fn interface_addresses(
        &self,
        name: &str,
        source: AddressSource,
    ) -> Result<Vec<GuestInterface>, Error> {
        let owned = name.to_owned();
        self.call("interface_addresses", name, &[], move |conn| {
            interfaces(&Domain::lookup_by_name(conn, &owned)?, source)
        })
        .await
    }
}

/// Definition and life.
impl Client {
    /// Stores a domain, or a new form of one, and returns its name; XML that the schema does not
    /// know is refused. A running domain takes up the new form at its next start.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidXml`]; [`Code::Exists`] for a name taken by another UUID.
    pub async fn define_domain(&self, xml: &str) -> Result<String, Error> {
        let owned = xml.to_owned();
        self.checked(Schema::Domain, "define_domain", &[xml], move |conn| {
            let flags = sys::VIR_DOMAIN_DEFINE_VALIDATE;
            Ok(Domain::define_xml_flags(conn, &owned, flags)?.get_name()?)
        })
        .await
    }

    /// Creates a domain that nothing is stored of, and starts it; XML that the schema does not know is
    /// refused. It is gone with its stop, and it is stopped when this client's connection ends, however
    /// that ends.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidXml`]; [`Code::Exists`], [`Code::OperationFailed`] for a name that is taken.
    pub async fn create_domain(&self, xml: &str) -> Result<(), Error> {
        let owned = xml.to_owned();
        self.checked(Schema::Domain, "create_domain", &[xml], move |conn| {
            let flags = sys::VIR_DOMAIN_START_AUTODESTROY | sys::VIR_DOMAIN_START_VALIDATE;
            Ok(Domain::create_xml(conn, &owned, flags).map(drop)?)
        })
        .await
    }

    /// Forgets the stored form, with its saved memory and what libvirt notes of snapshots and
    /// checkpoints, and the UEFI variables unless kept; never disks. A running domain goes on until
    /// its stop.
    ///
    /// # Errors
    ///
    /// [`Code::NoDomain`] where there is none of that name.
    pub async fn undefine_domain(&self, name: &str, keep_nvram: bool) -> Result<(), Error> {
        self.on_domain("undefine_domain", name, &[], move |d| undefine(d, keep_nvram)).await
    }

    /// Starts a stored domain.
    ///
    /// # Errors
    ///
    /// [`Code::OperationInvalid`] where it runs already.
    pub async fn start(&self, name: &str) -> Result<(), Error> {
        self.on_domain("start", name, &[], |d| Ok(d.create().map(drop)?)).await
    }

    /// Starts a stored domain without letting its CPUs run; [`Client::resume`] does that.
    ///
    /// # Errors
    ///
    /// [`Code::OperationInvalid`] where it runs already.
    pub async fn start_paused(&self, name: &str) -> Result<(), Error> {
        self.on_domain("start_paused", name, &[], |d| {
            Ok(d.create_with_flags(sys::VIR_DOMAIN_START_PAUSED).map(drop)?)
        })
        .await
    }

    /// Asks the guest to shut down and returns at once; the guest may never do so.
    ///
    /// # Errors
    ///
    /// [`Code::OperationInvalid`] where it does not run; [`Code::AgentUnresponsive`].
    pub async fn shutdown(&self, name: &str, mode: ShutdownMode) -> Result<(), Error> {
        let flags = match mode {
            ShutdownMode::Default => sys::VIR_DOMAIN_SHUTDOWN_DEFAULT,
            ShutdownMode::Acpi => sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN,
            ShutdownMode::Agent => sys::VIR_DOMAIN_SHUTDOWN_GUEST_AGENT,
        };
        self.on_domain("shutdown", name, &[], move |d| Ok(d.shutdown_flags(flags).map(drop)?)).await
    }

    /// Ends the guest without asking it. `graceful` gives the emulator time to write what it holds
    /// and fails with [`Code::ResourceBusy`] rather than kill one that hangs.
    ///
    /// # Errors
    ///
    /// [`Code::OperationInvalid`] where it does not run.
    pub async fn destroy(&self, name: &str, graceful: bool) -> Result<(), Error> {
        let flags = if graceful {
            sys::VIR_DOMAIN_DESTROY_GRACEFUL
        } else {
            sys::VIR_DOMAIN_DESTROY_DEFAULT
        };
        self.on_domain("destroy", name, &[], move |d| Ok(d.destroy_flags(flags).map(drop)?)).await
    }

    /// Asks the guest to boot anew; it may never do so.
    ///
    /// # Errors
    ///
    /// [`Code::OperationInvalid`] where it does not run.
    pub async fn reboot(&self, name: &str) -> Result<(), Error> {
        self.on_domain("reboot", name, &[], |d| Ok(d.reboot(0)?)).await
    }

    /// Stops the guest's CPUs; its memory stays.
    ///
    /// # Errors
    ///
    /// [`Code::OperationInvalid`] where it does not run.
    pub async fn suspend(&self, name: &str) -> Result<(), Error> {
        self.on_domain("suspend", name, &[], |d| Ok(d.suspend().map(drop)?)).await
    }

    /// Lets the CPUs of a paused guest run.
    ///
    /// # Errors
    ///
    /// [`Code::OperationInvalid`] where it does not run.
    pub async fn resume(&self, name: &str) -> Result<(), Error> {
        self.on_domain("resume", name, &[], |d| Ok(d.resume().map(drop)?)).await
    }

    /// Sets whether the domain starts with libvirtd.
    ///
    /// # Errors
    ///
    /// [`Code::OperationInvalid`] for a domain that is not persistent.
    pub async fn set_autostart(&self, name: &str, autostart: bool) -> Result<(), Error> {
        self.on_domain("set_autostart", name, &[], move |d| {
            Ok(d.set_autostart(autostart).map(drop)?)
        })
        .await
    }

    pub(crate) async fn on_domain<T: Send + 'static>(
        &self,
        call: &'static str,
        name: &str,
        arguments: &[&str],
        act: impl FnOnce(&Domain) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let owned = name.to_owned();
        self.call(call, name, arguments, move |conn| act(&Domain::lookup_by_name(conn, &owned)?))
            .await
    }
}
