//! Generations: a configuration becomes current, whole.
//!
//! `compile` fills the idle half and writes `pc_active` ([`Image::install`]); here is what remains to be done when the
//! half before is out of use.

use portcullis_bpf::abi::{Port, port_flag};

use super::error::KernelError;
use super::map::{KernelSink, Maps};
use super::sys;
use crate::compile::{Compiled, Image};

/// Value of `pc_active`: generation and half.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Active(u64);

// === impl Active ===

impl Active {
    /// What the maps say; generation 0 before the first.
    pub(crate) fn read(maps: &Maps) -> Result<Active, KernelError> {
        let word =
            maps.get("pc_active")?.get::<u32, u64>(&0).map_err(KernelError::system("read pc_active"))?;
        Ok(Active(word.unwrap_or(0)))
    }

    /// The generation's number.
    pub(crate) fn generation(self) -> u64 {
        self.0 >> 1
    }

    fn half(self) -> usize {
        (self.0 & 1) as usize
    }
}

/// Makes a configuration current.
pub(crate) fn apply(maps: &Maps, compiled: &Compiled) -> Result<(), KernelError> {
    compiled.image.install(compiled.tables.version, &mut KernelSink::new(maps))?;
    // Decisions by the half before are over after this.
    sys::wait_for_readers().map_err(KernelError::system("wait for the programs"))?;
    settle_ports(maps, &compiled.image, Active::read(maps)?.half())
}

/// Entries of `pc_ports` hold both halves, and a port is protected while either half has it. Once the old half is
/// out of use, what only it protected is no longer protected.
fn settle_ports(maps: &Maps, image: &Image, active: usize) -> Result<(), KernelError> {
    let fail = |what| KernelError::system(what);
    let map = maps.get("pc_ports")?;
    let wanted: Vec<u32> = image.ports().map(u32::from).collect();
    for port in map.keys::<u32>().map_err(fail("list pc_ports"))? {
        if !wanted.contains(&port) {
            map.remove(&port).map_err(fail("delete from pc_ports"))?;
            continue;
        }
        let Some(mut value) = map.get::<u32, Port>(&port).map_err(fail("read pc_ports"))? else { continue };
        let flag = |half: u32, flag| if half == 0 { 0 } else { flag };
        let flags =
            flag(value.enforce[active], port_flag::ENFORCE) | flag(value.upgrade[active], port_flag::UPGRADE);
        if value.flags != flags {
            value.flags = flags;
            map.set(&port, &value).map_err(fail("write pc_ports"))?;
        }
    }
    Ok(())
}
