//! A TCP connection of this process with itself.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

/// A firewall may swallow what passes the loopback interface.
const CONNECTS_WITHIN: Duration = Duration::from_secs(1);

/// The two ends: who connected, who accepted.
pub(crate) fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect_timeout(&listener.local_addr()?, CONNECTS_WITHIN)?;
    loop {
        let (far, peer) = listener.accept()?;
        // Anybody on this host may connect to the port.
        if peer == near.local_addr()? {
            return Ok((near, far));
        }
    }
}
