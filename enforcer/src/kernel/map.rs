//! Kernel maps by name: keys and values as bytes, and the sink that map images are written to.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::{fs, io};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::error::KernelError;
use super::sys::{self, MapInfo};
use crate::compile::{MapSink, SinkError};

/// One kernel map.
#[derive(Debug)]
pub(crate) struct Map {
    fd: OwnedFd,
    info: MapInfo,
    in_place: bool,
}

/// All maps of an instance.
#[derive(Debug)]
pub(crate) struct Maps {
    maps: BTreeMap<String, Map>,
}

/// Hash maps whose values have a lock, and are written where they stand: see pc_ports in bpf/include/abi.h.
const IN_PLACE: [&str; 1] = ["pc_ports"];

/// Elements that one batch call sets: bounds the memory for their keys.
const BATCH: usize = 65_536;

// === impl Map ===

impl Map {
    /// Opens a pinned map.
    pub(crate) fn open(path: &Path) -> Result<Map, KernelError> {
        let fd = sys::open(path).map_err(|source| KernelError::at("open the pin", path, source))?;
        let info =
            sys::map_info(fd.as_fd()).map_err(|source| KernelError::at("inspect the map", path, source))?;
        let in_place = path.file_name().is_some_and(|name| IN_PLACE.iter().any(|map| name == *map));
        Ok(Map { fd, info, in_place })
    }

    /// What the kernel says of it.
    pub(crate) fn info(&self) -> MapInfo {
        self.info
    }

    /// Value of `key`.
    pub(crate) fn get<K: IntoBytes + Immutable, V: FromBytes + IntoBytes>(
        &self,
        key: &K,
    ) -> io::Result<Option<V>> {
        let mut value = V::new_zeroed();
        self.sizes(size_of::<K>(), size_of::<V>())?;
        let found = sys::lookup(self.fd.as_fd(), key.as_bytes(), value.as_mut_bytes())?;
        Ok(found.then_some(value))
    }

    /// The values of all CPUs, one after the other.
    pub(crate) fn get_per_cpu<V: FromBytes + Copy>(&self, key: u32, cpus: usize) -> io::Result<Vec<V>> {
        let stride = size_of::<V>().next_multiple_of(8);
        self.sizes(4, size_of::<V>())?;
        let mut bytes = vec![0; stride * cpus];
        sys::lookup(self.fd.as_fd(), key.as_bytes(), &mut bytes)?;
        let values = bytes.chunks_exact(stride).filter_map(|chunk| V::read_from_prefix(chunk).ok());
        Ok(values.map(|(value, _)| value).collect())
    }

    /// Sets the value of `key`.
    pub(crate) fn set<K: IntoBytes + Immutable, V: IntoBytes + Immutable>(
        &self,
        key: &K,
        value: &V,
    ) -> io::Result<()> {
        self.set_bytes(key.as_bytes(), value.as_bytes())
    }

    /// Deletes `key`; `false` when there was none.
    pub(crate) fn remove<K: IntoBytes + Immutable>(&self, key: &K) -> io::Result<bool> {
        self.remove_bytes(key.as_bytes())
    }

    /// All keys, as [`Map::keys_bytes`].
    pub(crate) fn keys<K: FromBytes + IntoBytes + Immutable + Copy>(&self) -> io::Result<Vec<K>> {
        self.sizes(size_of::<K>(), self.info.value_size as usize)?;
        Ok(self.keys_bytes()?.iter().filter_map(|key| K::read_from_bytes(key).ok()).collect())
    }

    /// All keys as bytes. Entries that come or go meanwhile may be missed; a map that changes without end is cut off at
    /// twice its capacity.
    fn keys_bytes(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let mut next = vec![0; self.info.key_size as usize];
        while keys.len() < 2 * self.info.max_entries as usize {
            if !sys::next_key(self.fd.as_fd(), keys.last().map(Vec::as_slice), &mut next)? {
                break;
            }
            keys.push(next.clone());
        }
        Ok(keys)
    }

    fn get_bytes(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0; self.info.value_size as usize];
        self.sizes(key.len(), value.len())?;
        Ok(sys::lookup(self.fd.as_fd(), key, &mut value)?.then_some(value))
    }

    fn set_bytes(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.sizes(key.len(), value.len())?;
        sys::update(self.fd.as_fd(), key, value, self.in_place)
    }

    fn remove_bytes(&self, key: &[u8]) -> io::Result<bool> {
        self.sizes(key.len(), self.info.value_size as usize)?;
        sys::delete(self.fd.as_fd(), key)
    }

    /// Array elements from `first` on, in as few calls as possible.
    fn set_range(&self, first: u32, values: &[u8]) -> io::Result<()> {
        let size = self.info.value_size as usize;
        self.sizes(4, size)?;
        let mut at = first;
        for part in values.chunks(BATCH * size) {
            let keys: Vec<u32> = (at..).take(part.len() / size).collect();
            let count = keys.len() as u32;
            if count > 0 {
                sys::update_batch(self.fd.as_fd(), keys.as_bytes(), part, count)
                    .map_err(|(_, error)| error)?;
            }
            at += count;
        }
        Ok(())
    }

    fn sizes(&self, key: usize, value: usize) -> io::Result<()> {
        let MapInfo { key_size, value_size, .. } = self.info;
        if (key, value) == (key_size as usize, value_size as usize) {
            return Ok(());
        }
        let message = format!("entry of {key}+{value} bytes for a map of {key_size}+{value_size}");
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

// === impl Maps ===

impl Maps {
    /// Opens the pinned maps of an instance: all that stand in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Maps, KernelError> {
        let mut maps = BTreeMap::new();
        let entries = fs::read_dir(dir).map_err(|source| KernelError::at("list", dir, source))?;
        for entry in entries {
            let entry = entry.map_err(|source| KernelError::at("list", dir, source))?;
            maps.insert(entry.file_name().to_string_lossy().into_owned(), Map::open(&entry.path())?);
        }
        Ok(Maps { maps })
    }

    /// The map of that name.
    pub(crate) fn get(&self, name: &str) -> Result<&Map, KernelError> {
        self.maps.get(name).ok_or_else(|| KernelError::NoMap { name: name.to_owned() })
    }
}

/// Writes images to kernel maps.
pub(crate) struct KernelSink<'a> {
    maps: &'a Maps,
}

// === impl KernelSink ===

impl<'a> KernelSink<'a> {
    pub(crate) fn new(maps: &'a Maps) -> Self {
        Self { maps }
    }

    fn map(&self, name: &str) -> Result<&'a Map, SinkError> {
        self.maps.get(name).map_err(|error| SinkError { map: name.to_owned(), message: error.to_string() })
    }
}

impl MapSink for KernelSink<'_> {
    fn update(&mut self, name: &str, key: &[u8], value: &[u8]) -> Result<(), SinkError> {
        self.map(name)?.set_bytes(key, value).map_err(|error| refused(name, &error))
    }

    fn lookup(&mut self, name: &str, key: &[u8]) -> Result<Option<Vec<u8>>, SinkError> {
        self.map(name)?.get_bytes(key).map_err(|error| refused(name, &error))
    }

    fn keys(&mut self, name: &str) -> Result<Vec<Vec<u8>>, SinkError> {
        self.map(name)?.keys_bytes().map_err(|error| refused(name, &error))
    }

    fn wait_for_readers(&mut self) -> Result<(), SinkError> {
        sys::wait_for_readers().map_err(|error| refused("of maps", &error))
    }

    fn delete(&mut self, name: &str, key: &[u8]) -> Result<(), SinkError> {
        self.map(name)?.remove_bytes(key).map(drop).map_err(|error| refused(name, &error))
    }

    fn update_range(
        &mut self,
        name: &str,
        first: u32,
        values: &[u8],
        value_size: usize,
    ) -> Result<(), SinkError> {
        let map = self.map(name)?;
        if value_size != map.info().value_size as usize {
            let message = format!("values of {value_size} bytes for a map of {}", map.info().value_size);
            return Err(SinkError { map: name.to_owned(), message });
        }
        map.set_range(first, values).map_err(|error| refused(name, &error))
    }
}

fn refused(map: &str, error: &io::Error) -> SinkError {
    SinkError { map: map.to_owned(), message: error.to_string() }
}
