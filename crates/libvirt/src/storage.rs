//! Calls about storage pools and their volumes.

use std::collections::HashSet;

use virt::connect::Connect;
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt_sys as sys;

use crate::client::{Client, Listing, Schema};
use crate::error::Error;
use crate::text;

/// `virStoragePoolState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are libvirt's own")]
pub enum PoolState {
    Inactive,
    Building,
    Running,
    Degraded,
    Inaccessible,
    Other(u32),
}

impl PoolState {
    fn of(number: u32) -> PoolState {
        match number {
            sys::VIR_STORAGE_POOL_INACTIVE => PoolState::Inactive,
            sys::VIR_STORAGE_POOL_BUILDING => PoolState::Building,
            sys::VIR_STORAGE_POOL_RUNNING => PoolState::Running,
            sys::VIR_STORAGE_POOL_DEGRADED => PoolState::Degraded,
            sys::VIR_STORAGE_POOL_INACCESSIBLE => PoolState::Inaccessible,
            other => PoolState::Other(other),
        }
    }
}

/// A storage pool as libvirt has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRecord {
    /// Its name.
    pub name: String,
    /// Its UUID, in the usual form.
    pub uuid: String,
    /// Its state.
    pub state: PoolState,
    /// It is started.
    pub active: bool,
    /// It outlives its stop.
    pub persistent: bool,
    /// It starts with libvirtd.
    pub autostart: bool,
    /// The stored form.
    pub xml: String,
    /// Bytes in all; 0 while inactive, as the next two.
    pub capacity: u64,
    /// Bytes in use.
    pub allocation: u64,
    /// Bytes free.
    pub available: u64,
}

/// A volume as libvirt has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRecord {
    /// Its name within the pool.
    pub name: String,
    /// libvirt's key, unique on the host.
    pub key: String,
    /// `<volume>`, which tells its path and sizes too: asking for each would be a question more.
    pub xml: String,
}

fn filtered(conn: &Connect, filter: u32) -> Result<HashSet<String>, Error> {
    let pools = conn.list_all_storage_pools(filter)?;
    pools.iter().map(|p| Ok(p.get_uuid_string()?)).collect()
}

fn list(conn: &Connect) -> Result<Listing<PoolRecord>, Error> {
    let pools = conn.list_all_storage_pools(0)?;
    let active = filtered(conn, sys::VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)?;
    let persistent = filtered(conn, sys::VIR_CONNECT_LIST_STORAGE_POOLS_PERSISTENT)?;
    let autostart = filtered(conn, sys::VIR_CONNECT_LIST_STORAGE_POOLS_AUTOSTART)?;
    let mut listing = Listing::with_capacity(pools.len());
    for pool in &pools {
        let name = pool.get_name()?;
        let uuid = pool.get_uuid_string()?;
        let record = read(pool).map(|mut record| {
            record.active = active.contains(&uuid);
            record.persistent = persistent.contains(&uuid);
            record.autostart = autostart.contains(&uuid);
            record
        });
        listing.file(&name, record)?;
    }
    Ok(listing)
}

/// A pool without what the lists say (active, persistent, autostart).
fn read(pool: &StoragePool) -> Result<PoolRecord, Error> {
    let info = pool.get_info()?;
    let present = pool.get_xml_desc(0)?;
    let xml = if PoolState::of(info.state) == PoolState::Inactive {
        present
    } else {
        let stored = pool.get_xml_desc(sys::VIR_STORAGE_XML_INACTIVE).map_err(Error::from);
        text::or_only_form(stored, &present)?
    };
    Ok(PoolRecord {
        name: pool.get_name()?,
        uuid: pool.get_uuid_string()?,
        state: PoolState::of(info.state),
        active: false,
        persistent: false,
        autostart: false,
        xml,
        capacity: info.capacity,
        allocation: info.allocation,
        available: info.available,
    })
}

fn record(conn: &Connect, name: &str) -> Result<PoolRecord, Error> {
    let pool = StoragePool::lookup_by_name(conn, name)?;
    let mut record = read(&pool)?;
    record.active = pool.is_active()?;
    record.persistent = pool.is_persistent()?;
    record.autostart = pool.get_autostart()?;
    Ok(record)
}

fn volume(volume: &StorageVol) -> Result<VolumeRecord, Error> {
    let xml = volume.get_xml_desc(0)?;
    Ok(VolumeRecord { name: volume.get_name()?, key: volume.get_key()?, xml })
}

fn volumes(conn: &Connect, pool: &str) -> Result<Listing<VolumeRecord>, Error> {
    let found = StoragePool::lookup_by_name(conn, pool)?.list_all_volumes(0)?;
    let mut listing = Listing::with_capacity(found.len());
    for each in &found {
        listing.file(&each.get_name()?, volume(each))?;
    }
    Ok(listing)
}

/// Storage pools.
impl Client {
    /// All storage pools.
    ///
    /// # Errors
    ///
    /// When libvirt does not answer; a single unreadable pool is in the listing's `failed`.
    pub async fn pools(&self) -> Result<Listing<PoolRecord>, Error> {
        self.call("pools", "", &[], list).await
    }

    /// One storage pool.
    ///
    /// # Errors
    ///
    /// [`crate::Code::NoPool`] where there is none of that name.
    pub async fn pool(&self, name: &str) -> Result<PoolRecord, Error> {
        let owned = name.to_owned();
        self.call("pool", name, &[], move |conn| record(conn, &owned)).await
    }

    /// Stores a pool, or a new form of one; XML that the schema does not know is refused.
    ///
    /// # Errors
    ///
    /// [`crate::Code::InvalidXml`], or a conflict of name, UUID or place.
    pub async fn define_pool(&self, xml: &str) -> Result<(), Error> {
        let owned = xml.to_owned();
        self.checked(Schema::Pool, "define_pool", &[xml], move |conn| {
            StoragePool::define_xml(conn, &owned, sys::VIR_STORAGE_POOL_DEFINE_VALIDATE)?;
            Ok(())
        })
        .await
    }

    /// Makes the pool's place (its directory) where that is missing; overwrites nothing.
    ///
    /// # Errors
    ///
    /// When the place cannot be made.
    pub async fn build_pool(&self, name: &str) -> Result<(), Error> {
        self.on_pool("build_pool", name, |p| p.build(sys::VIR_STORAGE_POOL_BUILD_NEW).map(drop))
            .await
    }

    /// Starts a stored pool.
    ///
    /// # Errors
    ///
    /// [`crate::Code::OperationInvalid`] where it is started already.
    pub async fn start_pool(&self, name: &str) -> Result<(), Error> {
        self.on_pool("start_pool", name, |p| p.create(0).map(drop)).await
    }

    /// Stops a pool; its volumes stay where they are.
    ///
    /// # Errors
    ///
    /// [`crate::Code::OperationInvalid`] where it is not started.
    pub async fn destroy_pool(&self, name: &str) -> Result<(), Error> {
        self.on_pool("destroy_pool", name, StoragePool::destroy).await
    }

    /// Forgets a stopped pool; its volumes stay where they are.
    ///
    /// # Errors
    ///
    /// [`crate::Code::OperationInvalid`] where it is started.
    pub async fn undefine_pool(&self, name: &str) -> Result<(), Error> {
        self.on_pool("undefine_pool", name, StoragePool::undefine).await
    }

    /// Sets whether the pool starts with libvirtd.
    ///
    /// # Errors
    ///
    /// [`crate::Code::OperationInvalid`] for a pool that is not persistent.
    pub async fn set_pool_autostart(&self, name: &str, autostart: bool) -> Result<(), Error> {
        self.on_pool("set_pool_autostart", name, move |p| p.set_autostart(autostart).map(drop))
            .await
    }

    /// Has libvirt look again at what lies in the pool.
    ///
    /// # Errors
    ///
    /// [`crate::Code::OperationInvalid`] where it is not started.
    pub async fn refresh_pool(&self, name: &str) -> Result<(), Error> {
        self.on_pool("refresh_pool", name, |p| p.refresh(0).map(drop)).await
    }

    async fn on_pool(
        &self,
        call: &'static str,
        name: &str,
        act: impl FnOnce(&StoragePool) -> Result<(), virt::error::Error> + Send + 'static,
    ) -> Result<(), Error> {
        let owned = name.to_owned();
        self.call(call, name, &[], move |conn| {
            Ok(act(&StoragePool::lookup_by_name(conn, &owned)?)?)
        })
        .await
    }
}

/// Volumes.
impl Client {
    /// All volumes of a started pool, as of its last refresh.
    ///
    /// # Errors
    ///
    /// [`crate::Code::OperationInvalid`] where the pool is not started.
    pub async fn volumes(&self, pool: &str) -> Result<Listing<VolumeRecord>, Error> {
        let owned = pool.to_owned();
        self.call("volumes", pool, &[], move |conn| volumes(conn, &owned)).await
    }

    /// One volume of a started pool.
    ///
    /// # Errors
    ///
    /// [`crate::Code::NoVolume`] where there is none of that name.
    pub async fn volume(&self, pool: &str, name: &str) -> Result<VolumeRecord, Error> {
        self.on_volume("volume", pool, name, volume).await
    }

    /// Creates a volume.
    ///
    /// # Errors
    ///
    /// [`crate::Code::Exists`] where there is one of that name.
    pub async fn create_volume(&self, pool: &str, xml: &str) -> Result<VolumeRecord, Error> {
        let (owned, described) = (pool.to_owned(), xml.to_owned());
        self.call("create_volume", pool, &[xml], move |conn| {
            let pool = StoragePool::lookup_by_name(conn, &owned)?;
            volume(&StorageVol::create_xml(&pool, &described, 0)?)
        })
        .await
    }

    /// Deletes a volume and what is in it.
    ///
    /// # Errors
    ///
    /// [`crate::Code::NoVolume`] where there is none of that name.
    pub async fn delete_volume(&self, pool: &str, name: &str) -> Result<(), Error> {
        self.on_volume("delete_volume", pool, name, |v| Ok(v.delete(0)?)).await
    }

    /// Sets a volume's capacity in bytes; shrinking is refused by libvirt.
    ///
    /// # Errors
    ///
    /// [`crate::Code::InvalidArgument`] or [`crate::Code::OperationInvalid`] for a smaller size.
    pub async fn resize_volume(&self, pool: &str, name: &str, bytes: u64) -> Result<(), Error> {
        self.on_volume("resize_volume", pool, name, move |v| Ok(v.resize(bytes, 0).map(drop)?))
            .await
    }

    async fn on_volume<T: Send + 'static>(
        &self,
        call: &'static str,
        pool: &str,
        name: &str,
        act: impl FnOnce(&StorageVol) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (pool_name, volume_name) = (pool.to_owned(), name.to_owned());
        self.call(call, &format!("{pool}/{name}"), &[], move |conn| {
            let pool = StoragePool::lookup_by_name(conn, &pool_name)?;
            act(&StorageVol::lookup_by_name(&pool, &volume_name)?)
        })
        .await
    }
}
