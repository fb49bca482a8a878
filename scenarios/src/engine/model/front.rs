//! Connections of clients, each with one to the application behind it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use portcullis_verdict::{Connection, Fate, Handled};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{Shared, record};

/// A client that was answered for the last time may take this long to hang up.
const LINGER_MAX: Duration = Duration::from_secs(1);
/// More than a request head may have, so that one that arrives whole is read whole.
const SEGMENT_BYTES_MAX: usize = 64 << 10;
/// Decision numbers that one connection gets; more than it can use up in a scenario.
const DECISIONS_PER_CONNECTION: u64 = 1 << 20;

/// Serves until the task is aborted.
pub(super) async fn serve(listener: TcpListener, app: SocketAddr, shared: Arc<Shared>) {
    let Ok(port) = listener.local_addr().map(|addr| addr.port()) else { return };
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((client, peer)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        // Errors of a connection end that connection; both ends see them.
        connections.spawn(async move { drop(relay(client, peer, port, app, &shared).await) });
        while connections.try_join_next().is_some() {}
    }
}

async fn relay(
    mut client: TcpStream,
    peer: SocketAddr,
    port: u16,
    app: SocketAddr,
    shared: &Shared,
) -> io::Result<()> {
    let mut server = TcpStream::connect(app).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let first = shared.next_decision.fetch_add(DECISIONS_PER_CONNECTION, Ordering::Relaxed);
    let mut connection = Connection::new(port, first);
    let mut sent = vec![0; SEGMENT_BYTES_MAX];
    let mut answered = vec![0; SEGMENT_BYTES_MAX];
    let (mut client_open, mut server_open) = (true, true);
    while client_open || server_open {
        tokio::select! {
            read = client.read(&mut sent), if client_open => match read? {
                0 => {
                    client_open = false;
                    server.shutdown().await?;
                }
                length => match judge(&mut connection, &sent[..length], peer, port, shared) {
                    Fate::Pass => server.write_all(&sent[..length]).await?,
                    Fate::Answer { text, close: false } => client.write_all(&text).await?,
                    Fate::Answer { text, close: true } => {
                        drop(server);
                        return last_words(client, &text).await;
                    }
                    Fate::Destroy => return reset(client),
                    Fate::Drop => {}
                },
            },
            read = server.read(&mut answered), if server_open => match read? {
                0 => {
                    server_open = false;
                    client.shutdown().await?;
                }
                length => {
                    connection.application_wrote(&answered[..length]);
                    client.write_all(&answered[..length]).await?;
                }
            },
        }
    }
    Ok(())
}

/// What becomes of a segment under the configuration of now.
fn judge(connection: &mut Connection, segment: &[u8], peer: SocketAddr, port: u16, shared: &Shared) -> Fate {
    let Some(rules) = shared.rules() else { return Fate::Pass };
    if rules.policies.port_enforces(port).is_none() {
        return Fate::Pass;
    }
    let now_s = shared.now_s();
    let begin = Instant::now();
    let Handled { fate, records } = connection.segment(segment, &rules.policies, &rules.keys, now_s);
    let took = begin.elapsed();
    let logs = records.iter().map(|decided| record::access_log(decided, &rules, peer, port, now_s, took));
    shared.records().extend(logs);
    fate
}

/// Answers, and closes so that the answer arrives: what the client still sends is read, or a reset would overtake it.
async fn last_words(mut client: TcpStream, text: &[u8]) -> io::Result<()> {
    client.write_all(text).await?;
    client.shutdown().await?;
    let drain = async {
        let mut rest = [0; 4 << 10];
        while client.read(&mut rest).await? > 0 {}
        Ok::<(), io::Error>(())
    };
    timeout(LINGER_MAX, drain).await.unwrap_or(Ok(()))
}

fn reset(client: TcpStream) -> io::Result<()> {
    client.set_zero_linger()?;
    drop(client);
    Ok(())
}
