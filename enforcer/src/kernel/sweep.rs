//! Connections that are older than the protection of their port.

use portcullis_bpf::abi::{Conn, Port, port_flag};

use super::diag::Diag;
use super::error::KernelError;
use super::map::Maps;

/// Destroys established connections to enforced ports that are not under control. Nothing that they send is read by the
/// application any more (the guard sees to that); the reset tells both ends. How many there were.
pub(crate) fn uncontrolled(maps: &Maps, ports: impl Iterator<Item = u16>) -> Result<usize, KernelError> {
    let mut diag = Diag::default();
    let mut destroyed = 0;
    let (conns, protected) = (maps.get("pc_conns")?, maps.get("pc_ports")?);
    for port in ports {
        let about =
            protected.get::<u32, Port>(&u32::from(port)).map_err(KernelError::system("read pc_ports"))?;
        if about.is_none_or(|about| about.flags & port_flag::ENFORCE == 0) {
            continue;
        }
        let open = diag.connections(port).map_err(KernelError::system("list connections"))?;
        for connection in open {
            let known = conns.get::<u64, Conn>(&connection.cookie);
            if known.map_err(KernelError::system("read pc_conns"))?.is_none() {
                let done = diag.destroy(&connection).map_err(KernelError::system("destroy a connection"))?;
                destroyed += usize::from(done);
            }
        }
    }
    Ok(destroyed)
}
