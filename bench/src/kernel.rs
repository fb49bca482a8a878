//! `kernel`: what the datapath costs, beside no enforcer, a plain proxy and OpenSSL.
//!
//! Everything but the agent runs on one CPU: where a wake-up crosses CPUs it costs more than what is measured.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use aya::sys::{Stats, enable_stats};
use serde_json::{Value, json};

use crate::client::Client;
use crate::haproxy::HaProxy;
use crate::hold::Held;
use crate::measure::{Samples, median, paired, paired_ratio};
use crate::world::{Alg, CPU, World, request};
use crate::{cpu, openssl};

/// Live connections of the large case.
const CONNECTIONS: usize = 100_000;
/// Rules of the large case.
const RULES: usize = 10_000;
/// What a verdict on a known token may take, its record included, nanoseconds.
const VERDICT_NS: f64 = 700.0;
/// How often [`CONNECTIONS`] are opened: it takes seconds.
const TURNS: usize = 3;

/// Figures of a run, in the order in which they are shown, and what we want them to be.
const TARGETS: [(&str, Target); 8] = [
    ("cached_vs_direct_p50", Target::AtMost(1.2)),
    ("cached_vs_haproxy_added_p50", Target::AtMost(0.1)),
    ("rs256_2048_cold_vs_openssl", Target::AtMost(2.5)),
    ("es256_cold_vs_openssl", Target::AtMost(0.5)),
    ("rules_10000_vs_1", Target::AtMost(1.3)),
    ("conns_100000_vs_10", Target::AtMost(1.2)),
    ("flood_good_traffic", Target::AtLeast(0.8)),
    ("flood_good_traffic_vs_busy_cpu", Target::AtLeast(0.8)),
];

/// What a ratio should be.
#[derive(Clone, Copy)]
enum Target {
    AtMost(f64),
    AtLeast(f64),
}

/// Results under their names.
#[derive(Default)]
struct Results {
    ratios: BTreeMap<&'static str, f64>,
    raw: BTreeMap<&'static str, Value>,
}

// === impl Target ===

impl Target {
    fn is_met(self, ratio: f64) -> bool {
        match self {
            Target::AtMost(most) => ratio <= most,
            Target::AtLeast(least) => ratio >= least,
        }
    }

    fn text(self) -> String {
        match self {
            Target::AtMost(most) => format!("at most {most}"),
            Target::AtLeast(least) => format!("at least {least}"),
        }
    }
}

// === impl Results ===

impl Results {
    /// The ratio of that name. It is an error when nothing was measured.
    fn of(&self, name: &str) -> Result<f64> {
        let ratio = self.ratios.get(name).copied().with_context(|| format!("{name} was not measured"))?;
        ensure!(ratio.is_finite() && ratio > 0.0, "{name} came out as {ratio}: nothing was measured");
        Ok(ratio)
    }
}

/// Measures everything and writes `out`. `scale`: factor on the number of samples; 1 takes about a minute.
pub fn run(out: &Path, scale: f64) -> Result<()> {
    let many = |n: usize| ((n as f64 * scale) as usize).max(1);
    let mut results = Results::default();
    let before = cpu::machine();
    let mut world = World::start(131_072)?;
    cpu::pin(CPU).context("choosing a CPU")?;
    let done = (|| {
        say("cached request, beside none and HAProxy");
        cached(&world, &mut results, many(20), many(2000))?;
        say("first use of a token, beside OpenSSL");
        cold(&world, &mut results, many(400))?;
        say("10,000 rules, beside one");
        rules(&mut world, &mut results, many(10), many(2000))?;
        say("a flood of forged tokens, beside none");
        flood(&world, &mut results, many(5))?;
        say("100,000 connections, beside ten");
        connections(&world, &mut results, many(5), many(2000))
    })();
    let stopped = world.stop();
    done?;
    stopped?;
    let machine = json!({ "before": before, "after": cpu::machine() });
    let targets: BTreeMap<_, _> = TARGETS.iter().map(|(name, target)| (*name, target.text())).collect();
    let report = json!({
        "schema": 2, "ratios": results.ratios, "targets": targets, "raw": results.raw, "machine": machine,
    });
    std::fs::write(out, serde_json::to_string_pretty(&report)? + "\n")
        .with_context(|| format!("writing {}", out.display()))?;
    println!("{:<32} {:>8}  target", "ratio", "measured");
    for (name, target) in TARGETS {
        let ratio = results.of(name)?;
        let missed = if target.is_met(ratio) { "" } else { ", missed" };
        println!("{name:<32} {ratio:>8.3}  {}{missed}", target.text());
    }
    if let Some(ns) = results.raw.get("cached_verdict").and_then(|cached| cached["mean_ns"].as_f64()) {
        let missed = if ns <= VERDICT_NS { "" } else { ", missed" };
        println!("{:<32} {ns:>5.0} ns  at most {VERDICT_NS} ns{missed}", "verdict, known token");
    }
    Ok(())
}

/// p50 of a round trip: direct, through the enforcer, through HAProxy, in turns.
fn cached(world: &World, results: &mut Results, rounds: usize, count: usize) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("portcullis-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).context("making a directory for haproxy")?;
    let proxy = HaProxy::start(world.direct.addr(), CPU, &dir)?;
    let mut clients = [world.direct.addr(), world.guarded.addr(), proxy.addr()]
        .map(|addr| Client::connect(addr).map(|client| (client, Samples::default())));
    let request = request(&world.keys.token(Alg::Rs256, 0), 0);
    for client in clients.iter_mut().flatten() {
        client.0.round(&request, 500, 200)?;
    }
    for _ in 0..rounds {
        for client in &mut clients {
            let (client, samples) = client.as_mut().map_err(|e| anyhow::anyhow!("{e:#}"))?;
            samples.push(client.round(&request, count, 200)?);
        }
    }
    std::fs::remove_dir_all(&dir).context("removing haproxy's directory")?;
    let [Ok((_, direct)), Ok((mut client, guarded)), Ok((_, haproxy))] = clients else {
        bail!("a client could not connect")
    };
    let (d, g, h) = (direct.medians_ns(), guarded.medians_ns(), haproxy.medians_ns());
    results.ratios.insert("cached_vs_direct_p50", paired_ratio(&g, &d));
    results.ratios.insert("cached_vs_haproxy_added_p50", paired(&d, &g, &h, |d, g, h| (g - d) / (h - d)));
    let (runs, ns) = counted(world, || client.round(&request, count * 4, 200).map(drop))?;
    results.raw.insert("direct", direct.to_json());
    results.raw.insert("cached", guarded.to_json());
    results.raw.insert("haproxy", haproxy.to_json());
    results.raw.insert("cached_verdict", json!({ "runs": runs, "mean_ns": mean(runs, ns) }));
    Ok(())
}

/// Mean time of the whole verdict for tokens that were never seen, beside OpenSSL's verification of one signature.
fn cold(world: &World, results: &mut Results, tokens: usize) -> Result<()> {
    let before = openssl::speed()?;
    let mut client = Client::connect(world.guarded.addr())?;
    let mut means = Vec::new();
    for (alg, from) in [(Alg::Rs256, 1_000_000), (Alg::Es256, 2_000_000)] {
        let requests: Vec<_> =
            (0..tokens).map(|n| request(&world.keys.token(alg, from + n), n % 64)).collect();
        let (runs, ns) = counted(world, || {
            requests.iter().try_for_each(|request| client.round(request, 1, 200).map(drop))
        })?;
        means.push(mean(runs, ns));
    }
    let after = openssl::speed()?;
    let rsa = (before.rsa2048_s + after.rsa2048_s) / 2.0 * 1e9;
    let p256 = (before.p256_s + after.p256_s) / 2.0 * 1e9;
    results.ratios.insert("rs256_2048_cold_vs_openssl", means[0] / rsa);
    results.ratios.insert("es256_cold_vs_openssl", means[1] / p256);
    let raw = json!({
        "tokens": tokens, "rs256_verdict_mean_ns": means[0], "es256_verdict_mean_ns": means[1],
        "openssl_rsa2048_verify_ns": rsa, "openssl_p256_verify_ns": p256,
    });
    results.raw.insert("cold", raw);
    Ok(())
}

/// Mean time of the verdict for 64 paths in turn, with one rule that covers them and with 10,000, of which 64 do.
fn rules(world: &mut World, results: &mut Results, rounds: usize, count: usize) -> Result<()> {
    let token = world.keys.token(Alg::Rs256, 0);
    // From all over the automaton.
    let requests: Vec<_> = (0..64).map(|n| request(&token, n * (RULES / 64))).collect();
    let mut sides = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (side, rules) in sides.iter_mut().zip([1, RULES]) {
            world.rules(rules)?;
            side.push(verdict(world, &mut [Client::connect(world.guarded.addr())?], &requests, count)?);
        }
    }
    let [one, many] = sides;
    results.ratios.insert("rules_10000_vs_1", paired_ratio(&many, &one));
    let raw = json!({ "verdict_1_mean_ns": median(one), "verdict_10000_mean_ns": median(many) });
    results.raw.insert("rules", raw);
    world.rules(1)
}

/// Mean time of the verdict on ten connections, alone and among 100,000 that are open.
fn connections(world: &World, results: &mut Results, rounds: usize, count: usize) -> Result<()> {
    let token = world.keys.token(Alg::Rs256, 0);
    let requests: Vec<_> = (0..64).map(|item| request(&token, item)).collect();
    let mut active = (0..10).map(|_| Client::connect(world.guarded.addr())).collect::<Result<Vec<_>>>()?;
    let (mut few, mut among) = (Vec::new(), Vec::new());
    let refused = world.refused()?;
    for _ in 0..TURNS {
        few.push(verdicts(world, &mut active, &requests, rounds, count)?);
        let idle = Held::open(world.cgroup(), world.guarded.addr().port(), CONNECTIONS)?;
        ensure!(
            world.refused()? == refused,
            "the table of connections was full before there were {CONNECTIONS}: not all are under control"
        );
        among.push(verdicts(world, &mut active, &requests, rounds, count)?);
        drop(idle);
    }
    results.ratios.insert("conns_100000_vs_10", paired_ratio(&among, &few));
    let raw = json!({
        "idle_connections": CONNECTIONS, "verdict_10_mean_ns": few, "verdict_100000_mean_ns": among,
    });
    results.raw.insert("connections", raw);
    Ok(())
}

/// Rate of good requests while another address sends forged tokens as fast as it can from another CPU, over the rate
/// before; and over the rate while that CPU is as busy with nothing: two CPUs may be threads of one core, and then any work
/// on the one slows the other, so that the first ratio says more of the machine than of the programs.
fn flood(world: &World, results: &mut Results, rounds: usize) -> Result<()> {
    let good = request(&world.keys.token(Alg::Rs256, 0), 0);
    let mut client = Client::connect(world.guarded.addr())?;
    client.round(&good, 200, 200)?;
    let (mut ratios, mut idle, mut sent) = (Vec::new(), Vec::new(), 0);
    for round in 0..rounds {
        let quiet = rate(&mut client, &good)?;
        let spinning = Flood::spin();
        let busy = rate(&mut client, &good);
        spinning.stop();
        let flood = Flood::start(world, round)?;
        let loud = rate(&mut client, &good);
        sent += flood.stop();
        let (busy, loud) = (busy?, loud?);
        ratios.push(loud / busy);
        idle.push(loud / quiet);
    }
    results.ratios.insert("flood_good_traffic", median(idle.clone()));
    results.ratios.insert("flood_good_traffic_vs_busy_cpu", median(ratios.clone()));
    ensure!(sent > 0, "no forged token was sent");
    let raw = json!({ "beside_busy_cpu": ratios, "beside_idle_cpu": idle, "forged_tokens_sent": sent });
    results.raw.insert("flood", raw);
    Ok(())
}

/// Requests a second.
fn rate(client: &mut Client, request: &[u8]) -> Result<f64> {
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < Duration::from_secs(1) {
        client.round(request, 50, 200)?;
        count += 50;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

/// A sender of forged tokens on another CPU and from another address.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

// === impl Flood ===

impl Flood {
    fn start(world: &World, round: usize) -> Result<Flood> {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let addr = world.guarded.addr();
        // One bit of the signature differs from token to token, so no cache of refusals helps.
        let token = world.keys.token(Alg::Rs256, 3_000_000 + round);
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            elsewhere();
            forge(addr, &token, &stopped, &count);
        });
        Ok(Flood { stop, sent, thread })
    }

    /// Work that has nothing to do with the network.
    fn spin() -> Flood {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            elsewhere();
            let mut x = 1_u64;
            while !stopped.load(Ordering::Relaxed) {
                x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
            }
        });
        Flood { stop, sent: Arc::default(), thread }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        // A thread that panicked has sent what it counted.
        let _ = self.thread.join();
        self.sent.load(Ordering::Relaxed)
    }
}

/// Moves this thread to a CPU that is not the clients'; on a machine with one CPU it stays.
fn elsewhere() {
    let _ = cpu::pin((CPU + 1) % cpu::online());
}

fn forge(addr: SocketAddr, token: &str, stop: &AtomicBool, sent: &AtomicU64) {
    let (input, signature) = token.rsplit_once('.').unwrap_or((token, ""));
    let mut signature = signature.as_bytes().to_vec();
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut client = None;
    for n in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        for digit in 0..4 {
            signature[8 + digit] = alphabet[n / alphabet.len().pow(digit as u32) % alphabet.len()];
        }
        let forged = request(&format!("{input}.{}", String::from_utf8_lossy(&signature)), 0);
        // A connection may have been closed for the forgery before: the next one goes on.
        let connection = match client.take() {
            Some(connection) => Some(connection),
            None => from(addr, [127, 0, 0, 2].into()).and_then(Client::over).ok(),
        };
        if let Some(mut connection) = connection
            && connection.round_trip(&forged).is_ok()
        {
            client = Some(connection);
        }
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// Median of the mean verdict times of so many rounds.
fn verdicts(
    world: &World,
    clients: &mut [Client],
    requests: &[Vec<u8>],
    rounds: usize,
    count: usize,
) -> Result<f64> {
    let means = (0..rounds).map(|_| verdict(world, clients, requests, count)).collect::<Result<_>>()?;
    Ok(median(means))
}

/// Mean verdict time of `count` requests over all connections, nanoseconds.
fn verdict(world: &World, clients: &mut [Client], requests: &[Vec<u8>], count: usize) -> Result<f64> {
    let mut go = |count: usize| -> Result<()> {
        for n in 0..count {
            let at = n % clients.len();
            clients[at].round(&requests[n * 7 % requests.len()], 1, 200)?;
        }
        Ok(())
    };
    go(count / 10 + 1)?;
    let (runs, ns) = counted(world, || go(count))?;
    Ok(mean(runs, ns))
}

/// Runs and nanoseconds of the entry program while `what` happens.
fn counted(world: &World, what: impl FnOnce() -> Result<()>) -> Result<(u64, u64)> {
    let stats: OwnedFd = enable_stats(Stats::RunTime).context("enabling run-time statistics")?;
    let before = world.entry()?;
    what()?;
    let after = world.entry()?;
    drop(stats);
    Ok((after.0 - before.0, after.1 - before.1))
}

fn mean(runs: u64, ns: u64) -> f64 {
    if runs == 0 { f64::NAN } else { ns as f64 / runs as f64 }
}

/// A connection from this address.
fn from(to: SocketAddr, address: std::net::Ipv4Addr) -> std::io::Result<std::net::TcpStream> {
    crate::client::connect_from(address, to)
}

fn say(what: &str) {
    eprintln!("==> {what}");
}
