//! The engine's way to the control plane, which a scenario can cut.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A relay of TCP connections. Dropping it ends it.
pub(crate) struct Relay {
    addr: SocketAddr,
    open: watch::Sender<bool>,
    listener: Option<TcpListener>,
    task: Option<JoinHandle<()>>,
}

// === impl Relay ===

impl Relay {
    /// Takes an address; connections wait until [`Relay::lead_to`].
    pub(crate) async fn new() -> Result<Relay> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listening")?;
        let addr = listener.local_addr().context("listening")?;
        Ok(Relay { addr, open: watch::Sender::new(true), listener: Some(listener), task: None })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Relays connections to `target` from now on.
    pub(crate) fn lead_to(&mut self, target: SocketAddr) {
        if let Some(listener) = self.listener.take() {
            self.task = Some(tokio::spawn(serve(listener, target, self.open.subscribe())));
        }
    }

    /// Cuts every connection and resets new ones, or relays again.
    pub(crate) fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, open: watch::Receiver<bool>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        if *open.borrow() {
            connections.spawn(relay(client, target, open.clone()));
        } else {
            reset(client);
        }
    }
}

async fn relay(mut client: TcpStream, target: SocketAddr, mut open: watch::Receiver<bool>) {
    let Ok(mut server) = TcpStream::connect(target).await else { return reset(client) };
    // Without these, answers of two writes wait for the other end's delayed acknowledgement.
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    tokio::select! {
        // An error of one end ends both, which is what the other end should see.
        done = copy_bidirectional(&mut client, &mut server) => drop(done),
        _ = open.wait_for(|open| !open) => reset(client),
    }
}

fn reset(client: TcpStream) {
    // A connection that cannot be reset is closed.
    drop(client.set_zero_linger());
}
