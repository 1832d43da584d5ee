//! Calls about networks.
//!
//! libvirt 9.0 has no calls for a network's metadata; its `<metadata>` is part of the XML.

use std::collections::HashSet;
use std::ptr;

use virt::connect::Connect;
use virt::network::Network;
use virt_sys as sys;

use crate::client::{Client, Listing, Schema, Scope};
use crate::error::Error;
use crate::text;

/// A network as libvirt has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRecord {
    /// Its name.
    pub name: String,
    /// Its UUID, in the usual form.
    pub uuid: String,
    /// It is started.
    pub active: bool,
    /// It outlives its stop.
    pub persistent: bool,
    /// It starts with libvirtd.
    pub autostart: bool,
    /// The stored form; that of a network which is not persistent is its live one.
    pub inactive_xml: String,
    /// The live form, of an active network.
    pub live_xml: Option<String>,
}

/// An address given out by a network's DHCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// MAC address.
    pub mac: String,
    /// IP address.
    pub address: String,
    /// Length of the network's prefix.
    pub prefix: u32,
    /// The name the guest gave; may be empty.
    pub hostname: String,
    /// The client's id; may be empty.
    pub client_id: String,
    /// When it ends, in seconds since 1970.
    pub expires_s: i64,
}

/// `virNetworkUpdateCommand`: what to do with the element given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are libvirt's own")]
pub enum UpdateCommand {
    Modify,
    Delete,
    AddLast,
    AddFirst,
}

/// `virNetworkUpdateSection`: where in the XML; those that drivers can update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are libvirt's own")]
pub enum NetworkSection {
    IpDhcpHost,
    IpDhcpRange,
    ForwardInterface,
    PortGroup,
    DnsHost,
    DnsTxt,
    DnsSrv,
}

impl UpdateCommand {
    fn number(self) -> sys::virNetworkUpdateCommand {
        match self {
            UpdateCommand::Modify => sys::VIR_NETWORK_UPDATE_COMMAND_MODIFY,
            UpdateCommand::Delete => sys::VIR_NETWORK_UPDATE_COMMAND_DELETE,
            UpdateCommand::AddLast => sys::VIR_NETWORK_UPDATE_COMMAND_ADD_LAST,
            UpdateCommand::AddFirst => sys::VIR_NETWORK_UPDATE_COMMAND_ADD_FIRST,
        }
    }
}

impl NetworkSection {
    fn number(self) -> sys::virNetworkUpdateSection {
        match self {
            NetworkSection::IpDhcpHost => sys::VIR_NETWORK_SECTION_IP_DHCP_HOST,
            NetworkSection::IpDhcpRange => sys::VIR_NETWORK_SECTION_IP_DHCP_RANGE,
            NetworkSection::ForwardInterface => sys::VIR_NETWORK_SECTION_FORWARD_INTERFACE,
            NetworkSection::PortGroup => sys::VIR_NETWORK_SECTION_PORTGROUP,
            NetworkSection::DnsHost => sys::VIR_NETWORK_SECTION_DNS_HOST,
            NetworkSection::DnsTxt => sys::VIR_NETWORK_SECTION_DNS_TXT,
            NetworkSection::DnsSrv => sys::VIR_NETWORK_SECTION_DNS_SRV,
        }
    }
}

/// The UUIDs of the networks that pass a `virConnectListAllNetworksFlags` filter: one question for
/// all, in place of one for each.
fn filtered(conn: &Connect, filter: u32) -> Result<HashSet<String>, Error> {
    let networks = conn.list_all_networks(filter)?;
    networks.iter().map(|n| Ok(n.get_uuid_string()?)).collect()
}

/// The stored and, of an active network, the live form. A network that is not active has one form
/// only, so it costs one question.
fn forms(network: &Network, active: bool) -> Result<(String, Option<String>), Error> {
    let present = network.get_xml_desc(0)?;
    if !active {
        return Ok((present, None));
    }
    let stored = network.get_xml_desc(sys::VIR_NETWORK_XML_INACTIVE).map_err(Error::from);
    Ok((text::or_only_form(stored, &present)?, Some(present)))
}

fn list(conn: &Connect) -> Result<Listing<NetworkRecord>, Error> {
    let networks = conn.list_all_networks(0)?;
    let active = filtered(conn, sys::VIR_CONNECT_LIST_NETWORKS_ACTIVE)?;
    let persistent = filtered(conn, sys::VIR_CONNECT_LIST_NETWORKS_PERSISTENT)?;
    let autostart = filtered(conn, sys::VIR_CONNECT_LIST_NETWORKS_AUTOSTART)?;
    let mut listing = Listing::with_capacity(networks.len());
    for network in &networks {
        let (name, uuid) = (network.get_name()?, network.get_uuid_string()?);
        let active = active.contains(&uuid);
        let record = forms(network, active).map(|(inactive_xml, live_xml)| NetworkRecord {
            name: name.clone(),
            active,
            persistent: persistent.contains(&uuid),
            autostart: autostart.contains(&uuid),
            inactive_xml,
            live_xml,
            uuid,
        });
        listing.file(&name, record)?;
    }
    Ok(listing)
}

fn record(conn: &Connect, name: &str) -> Result<NetworkRecord, Error> {
    let network = Network::lookup_by_name(conn, name)?;
    let active = network.is_active()?;
    let (inactive_xml, live_xml) = forms(&network, active)?;
    Ok(NetworkRecord {
        name: network.get_name()?,
        uuid: network.get_uuid_string()?,
        active,
        persistent: network.is_persistent()?,
        autostart: network.get_autostart()?,
        inactive_xml,
        live_xml,
    })
}

fn define(conn: &Connect, xml: &str, flags: u32) -> Result<(), Error> {
    let xml = text::to_c(xml)?;
    // SAFETY: both pointers are valid during the call; the result is null or a reference of ours,
    // which `Network` gives back.
    let network = unsafe {
        let ptr = sys::virNetworkDefineXMLFlags(conn.as_ptr(), xml.as_ptr(), flags);
        if ptr.is_null() {
            return Err(Error::last());
        }
        Network::from_ptr(ptr)
    };
    drop(network);
    Ok(())
}

fn leases(conn: &Connect, name: &str) -> Result<Vec<Lease>, Error> {
    let network = Network::lookup_by_name(conn, name)?;
    let mut list: *mut sys::virNetworkDHCPLeasePtr = ptr::null_mut();
    // SAFETY: the network is valid; libvirt fills `list` with an array of as many pointers as it
    // returns, all ours to free.
    let count =
        unsafe { sys::virNetworkGetDHCPLeases(network.as_ptr(), ptr::null(), &raw mut list, 0) };
    let count = usize::try_from(count).map_err(|_| Error::last())?;
    let mut leases = Vec::with_capacity(count);
    for n in 0..count {
        // SAFETY: `n` is within the array; the lease and its texts are valid until freed here, and
        // each is freed once.
        unsafe {
            let lease = *list.add(n);
            leases.push(Lease {
                mac: text::copy((*lease).mac),
                address: text::copy((*lease).ipaddr),
                prefix: (*lease).prefix,
                hostname: text::copy((*lease).hostname),
                client_id: text::copy((*lease).clientid),
                expires_s: (*lease).expirytime,
            });
            sys::virNetworkDHCPLeaseFree(lease);
        }
    }
    // SAFETY: the array was allocated by libvirt for the caller to free; free accepts null.
    unsafe { libc::free(list.cast()) };
    Ok(leases)
}

impl Client {
    /// All networks.
    ///
    /// # Errors
    ///
    /// When libvirt does not answer; a single unreadable network is in the listing's `failed`.
    pub async fn networks(&self) -> Result<Listing<NetworkRecord>, Error> {
        self.call("networks", "", &[], list).await
    }

    /// One network.
    ///
    /// # Errors
    ///
    /// [`crate::Code::NoNetwork`] where there is none of that name.
    pub async fn network(&self, name: &str) -> Result<NetworkRecord, Error> {
        let owned = name.to_owned();
        self.call("network", name, &[], move |conn| record(conn, &owned)).await
    }

    /// Stores a network, or a new form of one; XML that the schema does not know is refused.
    ///
    /// # Errors
    ///
    /// [`crate::Code::InvalidXml`], or a conflict of name and UUID.
    pub async fn define_network(&self, xml: &str) -> Result<(), Error> {
        let owned = xml.to_owned();
        self.checked(Schema::Network, "define_network", &[xml], move |conn| {
            define(conn, &owned, sys::VIR_NETWORK_DEFINE_VALIDATE)
        })
        .await
    }

    /// Like [`Client::define_network`], but what the schema does not know is silently dropped: for
    /// XML known to be sound, as libvirt takes some 2 ms to load the schema each time.
    ///
    /// # Errors
    ///
    /// [`crate::Code::InvalidXml`], or a conflict of name and UUID.
    pub async fn define_network_unvalidated(&self, xml: &str) -> Result<(), Error> {
        let owned = xml.to_owned();
        self.call("define_network_unvalidated", "", &[xml], move |conn| define(conn, &owned, 0))
            .await
    }

    /// Creates a network that nothing is stored of, and starts it. It is gone with its stop.
    ///
    /// # Errors
    ///
    /// [`crate::Code::InvalidXml`]; [`crate::Code::OperationFailed`] for a name or a bridge that is
    /// taken.
    pub async fn create_network(&self, xml: &str) -> Result<(), Error> {
        let owned = xml.to_owned();
        self.call("create_network", "", &[xml], move |conn| {
            Ok(Network::create_xml(conn, &owned).map(drop)?)
        })
        .await
    }

    /// Starts a stored network.
    ///
    /// # Errors
    ///
    /// [`crate::Code::OperationInvalid`] where it is started already.
    pub async fn start_network(&self, name: &str) -> Result<(), Error> {
        self.on_network("start_network", name, |n| n.create().map(drop)).await
    }

    /// Stops a network; one that is not persistent is gone then. Guests on it lose it.
    ///
    /// # Errors
    ///
    /// [`crate::Code::OperationInvalid`] where it is not started.
    pub async fn destroy_network(&self, name: &str) -> Result<(), Error> {
        self.on_network("destroy_network", name, Network::destroy).await
    }

    /// Forgets the stored form; a started network goes on until its stop.
    ///
    /// # Errors
    ///
    /// [`crate::Code::NoNetwork`] where there is none of that name.
    pub async fn undefine_network(&self, name: &str) -> Result<(), Error> {
        self.on_network("undefine_network", name, Network::undefine).await
    }

    /// Sets whether the network starts with libvirtd.
    ///
    /// # Errors
    ///
    /// [`crate::Code::OperationInvalid`] for a network that is not persistent.
    pub async fn set_network_autostart(&self, name: &str, autostart: bool) -> Result<(), Error> {
        self.on_network("set_network_autostart", name, move |n| {
            n.set_autostart(autostart).map(drop)
        })
        .await
    }

    /// Changes one element of a network without stopping it. `index` is that of the parent element
    /// among its like (which `<ip>`); -1 lets libvirt find it.
    ///
    /// # Errors
    ///
    /// [`crate::Code::OperationInvalid`] or [`crate::Code::NoSupport`] for what cannot be changed.
    pub async fn update_network(
        &self,
        name: &str,
        command: UpdateCommand,
        section: NetworkSection,
        index: i32,
        xml: &str,
        scope: Scope,
    ) -> Result<(), Error> {
        let (owned, element) = (name.to_owned(), xml.to_owned());
        self.call("update_network", name, &[xml], move |conn| {
            let network = Network::lookup_by_name(conn, &owned)?;
            let (command, section) = (command.number(), section.number());
            // The flags of `virNetworkUpdateFlags` have the numbers of those for domains.
            Ok(network.update(command, section, index, &element, scope.flags())?)
        })
        .await
    }

    /// The addresses that the network's DHCP server has given out.
    ///
    /// # Errors
    ///
    /// [`crate::Code::NoSupport`] where the driver has none.
    pub async fn leases(&self, network: &str) -> Result<Vec<Lease>, Error> {
        let owned = network.to_owned();
        self.call("leases", network, &[], move |conn| leases(conn, &owned)).await
    }

    async fn on_network(
        &self,
        call: &'static str,
        name: &str,
        act: impl FnOnce(&Network) -> Result<(), virt::error::Error> + Send + 'static,
    ) -> Result<(), Error> {
        let owned = name.to_owned();
        self.call(call, name, &[], move |conn| Ok(act(&Network::lookup_by_name(conn, &owned)?)?))
            .await
    }
}
