//! Keeps the configuration equal to files of this host, and the certificate to its own. A control plane is followed by
//! `portcullis-follower`, in threads of its own.
//!
//! **Invariant:** what cannot be read or compiled changes nothing: the generation before stays in force.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use portcullis_follower::Follower;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::config::Local;
use crate::engine::Deciding;
use crate::gateway::Shared;
use crate::rules::Rules;
use crate::tls::Certificate;

/// Where the configuration comes from.
pub(crate) enum Origin {
    Plane(Arc<Follower<Deciding>>),
    Local(Local),
}

/// What tells a changed file from the one before.
type Stamp = Vec<Option<(SystemTime, u64)>>;

/// How often files are looked at.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// Gets the first configuration.
pub(crate) async fn begin(shared: &Arc<Shared>, origin: &Origin) -> Result<(), String> {
    match origin {
        // Bad files are for whoever starts the gateway to mend.
        Origin::Local(local) => install_local(shared, local),
        Origin::Plane(follower) => {
            let (follower, engine) = (Arc::clone(follower), Deciding(Arc::clone(shared)));
            // It asks the control plane, and waits for its answer. A panic there would be told at the first request.
            drop(spawn_blocking(move || follower.begin(engine)).await);
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
        Origin::Plane(_) => Vec::new(),
    };
    let pem: Vec<PathBuf> = certificate.iter().flat_map(|one| one.files()).map(Path::to_owned).collect();
    let (mut seen, mut seen_pem) = (stamp(&watched), stamp(&pem));
    let look = poll.min(LOOK_MAX);
    loop {
        let asked = tokio::select! {
            () = shared.reload_asked() => true,
            () = sleep(look) => false,
        };
        let now_pem = stamp(&pem);
        if let Some(certificate) = certificate.as_ref().filter(|_| asked || now_pem != seen_pem) {
            seen_pem = now_pem;
            match certificate.reload() {
                Ok(()) => shared.certificate_read(),
                Err(error) => shared.failed(error),
            }
        }
        match &origin {
            Origin::Plane(follower) if asked => {
                let follower = Arc::clone(follower);
                // How it went is in its state.
                drop(spawn_blocking(move || follower.sync(None)));
            }
            Origin::Plane(_) => {}
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

fn install_local(shared: &Shared, local: &Local) -> Result<(), String> {
    let mut bundle = (local.load)()?;
    bundle.version = shared.version() + 1;
    let (rules, problems) = Rules::new(bundle)?;
    shared.install(rules, problems);
    Ok(())
}

fn stamp(paths: &[PathBuf]) -> Stamp {
    let one = |path: &PathBuf| {
        let data = fs::metadata(path).ok()?;
        Some((data.modified().ok()?, data.len()))
    };
    paths.iter().map(one).collect()
}
