//! Keeps the configuration equal to its source.
//!
//! **Invariant:** what cannot be fetched, read or compiled changes nothing: the generation before stays in force.
//! **Invariant:** an older version of the control plane's than the one in force is refused.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use portcullis_wire::Bundle;
use tokio::time::sleep;

use crate::config::Local;
use crate::gateway::Shared;
use crate::plane::Plane;
use crate::rules::Rules;
use crate::tls::Certificate;

/// Where the configuration comes from.
pub(crate) enum Origin {
    Plane { plane: Arc<Plane>, cache: Option<PathBuf> },
    Local(Local),
}

/// What tells a changed file from the one before.
type Stamp = Vec<Option<(SystemTime, u64)>>;

/// How often files are looked at.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// Gets the first configuration; that of the cache while the control plane cannot be reached.
pub(crate) async fn begin(shared: &Shared, origin: &Origin) -> Result<(), String> {
    match origin {
        // Bad files are for whoever starts the gateway to mend.
        Origin::Local(local) => install_local(shared, local),
        Origin::Plane { plane, cache } => {
            if let Err(error) = fetch(shared, plane, cache.as_deref()).await {
                shared.failed(error);
                if let Some(bundle) = cache.as_deref().and_then(|path| read(shared, path)) {
                    install(shared, bundle).unwrap_or_else(|error| shared.failed(error));
                }
            }
            Ok(())
        }
    }
}

/// Follows the source and the certificate until aborted.
pub(crate) async fn follow(
    shared: Arc<Shared>,
    origin: Origin,
    certificate: Option<Arc<Certificate>>,
    poll: Duration,
) {
    let watched: Vec<PathBuf> = match &origin {
        Origin::Local(local) => local.watched.clone(),
        Origin::Plane { .. } => Vec::new(),
    };
    let pem: Vec<PathBuf> = certificate.iter().flat_map(|one| one.files()).map(Path::to_owned).collect();
    let (mut seen, mut seen_pem) = (stamp(&watched), stamp(&pem));
    // Files are looked at more often than a control plane is asked.
    let look = poll.min(LOOK_MAX);
    let mut until_asked = poll;
    loop {
        let asked = tokio::select! {
            () = shared.reload_asked() => true,
            () = sleep(look) => false,
        };
        until_asked = until_asked.saturating_sub(look);
        let now_pem = stamp(&pem);
        if let Some(certificate) = certificate.as_ref().filter(|_| asked || now_pem != seen_pem) {
            seen_pem = now_pem;
            match certificate.reload() {
                Ok(()) => shared.certificate_read(),
                Err(error) => shared.failed(error),
            }
        }
        match &origin {
            Origin::Plane { plane, cache } if asked || until_asked.is_zero() => {
                until_asked = poll;
                if let Err(error) = fetch(&shared, plane, cache.as_deref()).await {
                    shared.failed(error);
                }
            }
            Origin::Plane { .. } => {}
            Origin::Local(local) => {
                let now = stamp(&watched);
                if asked || now != seen {
                    seen = now;
                    install_local(&shared, local).unwrap_or_else(|error| shared.failed(error));
                }
            }
        }
    }
}

/// Sends access records until aborted.
pub(crate) async fn report(shared: Arc<Shared>, plane: Arc<Plane>, every: Duration) {
    loop {
        sleep(every).await;
        // What is not taken waits for the next round, and the counts show it.
        drop(send(&shared, &plane).await);
    }
}

/// Sends the access records that wait.
pub(crate) async fn send(shared: &Shared, plane: &Plane) -> Result<(), String> {
    let Some(queue) = shared.for_plane() else { return Ok(()) };
    loop {
        let batch = queue.take();
        if batch.is_empty() {
            return Ok(());
        }
        if let Err(error) = plane.report(&batch).await {
            queue.give_back(batch);
            return Err(error);
        }
        queue.sent(batch.len());
    }
}

fn install_local(shared: &Shared, local: &Local) -> Result<(), String> {
    let mut bundle = (local.load)()?;
    bundle.version = shared.version() + 1;
    install(shared, bundle)
}

async fn fetch(shared: &Shared, plane: &Plane, cache: Option<&Path>) -> Result<(), String> {
    if let Some(mut fetched) = plane.fetch().await? {
        install(shared, std::mem::take(&mut fetched.bundle))?;
        if let Some(path) = cache
            && let Err(error) = replace(path, &fetched.text)
        {
            shared
                .failed(format!("{}: {error}; the configuration is not kept over a restart", path.display()));
        }
        plane.accepted(fetched);
    }
    shared.fetched();
    Ok(())
}

fn install(shared: &Shared, bundle: Bundle) -> Result<(), String> {
    let (offered, current) = (bundle.version, shared.version());
    if offered < current {
        return Err(format!(
            "configuration version {offered} is older than {current}, which is in force: refused"
        ));
    }
    let (rules, problems) =
        Rules::new(bundle).map_err(|error| format!("configuration version {offered}: {error}"))?;
    shared.install(rules, problems);
    Ok(())
}

fn read(shared: &Shared, path: &Path) -> Option<Bundle> {
    let text = fs::read(path).ok()?;
    serde_json::from_slice(&text)
        .map_err(|error| shared.failed(format!("{}: not used: {error}", path.display())))
        .ok()
}

/// Replaces the file as a whole: a crash leaves the old one or the new one.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    fs::write(&new, text)?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(&new, path)
}

fn stamp(paths: &[PathBuf]) -> Stamp {
    let one = |path: &PathBuf| {
        let data = fs::metadata(path).ok()?;
        Some((data.modified().ok()?, data.len()))
    };
    paths.iter().map(one).collect()
}
