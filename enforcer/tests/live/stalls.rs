//! Processors that stand still, as emulated ones do for moments on a busy host: what a test may then repeat.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::nesting::pin_to;

/// The agent's beat holds for 300 ms and is renewed every 50 ms (`BEAT_FOR`, `BEAT_EVERY` in `responder.rs`): a thread
/// that is held up for longer than the rest may have missed it. Then the kernel answers by itself, as it should.
const STALL: Duration = Duration::from_millis(200);
const ATTEMPTS: usize = 5;

/// A thread on each processor, that sleeps for moments and looks how long they were.
struct Witness {
    ended: Arc<AtomicBool>,
    longest_ms: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

/// What `attempt` says, repeated where it failed while a processor stood still. A failure on a machine that was there all
/// the time stands.
pub fn unless_stalled<T>(mut attempt: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    for n in 1.. {
        let witness = Witness::start();
        let result = attempt();
        let longest = witness.end();
        match &result {
            Err(error) if !stands(longest, n) => {
                eprintln!("again, for a processor stood still for {} ms: {error}", longest.as_millis());
            }
            _ => return result,
        }
    }
    unreachable!("the last attempt counts")
}

/// Whether the failure of the `n`th attempt stands, after what the witness saw.
fn stands(longest: Duration, n: usize) -> bool {
    longest < STALL || n >= ATTEMPTS
}

// === impl Witness ===

impl Witness {
    fn start() -> Witness {
        let (ended, longest_ms): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
        let threads = cpus().into_iter().map(|cpu| {
            let (ended, longest_ms) = (ended.clone(), longest_ms.clone());
            thread::spawn(move || {
                pin_to(cpu);
                raise_priority();
                while !ended.load(Ordering::SeqCst) {
                    let slept = Instant::now();
                    thread::sleep(Duration::from_millis(10));
                    longest_ms.fetch_max(slept.elapsed().as_millis() as u64, Ordering::SeqCst);
                }
            })
        });
        let threads = threads.collect();
        Witness { ended, longest_ms, threads }
    }

    /// The longest of those moments.
    fn end(self) -> Duration {
        self.ended.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a witness"));
        Duration::from_millis(self.longest_ms.load(Ordering::SeqCst))
    }
}

/// Those that this thread may run on.
fn cpus() -> Vec<usize> {
    // SAFETY: cpu_set_t is plain data for which all-zero is valid; the call writes it, and its size is passed.
    let (done, set) = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        (libc::sched_getaffinity(0, size_of_val(&set), &raw mut set), set)
    };
    assert_eq!(done, 0, "sched_getaffinity: {}", std::io::Error::last_os_error());
    // SAFETY: a live set, and numbers below its size.
    (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}

/// The agent's responder has it, too.
fn raise_priority() {
    // SAFETY: integers only; Linux takes a thread's id here.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, libc::gettid() as libc::id_t, -10) };
}

#[test]
fn a_failure_stands_where_no_processor_stood_still() {
    assert!(stands(Duration::from_millis(20), 1));
    assert!(!stands(STALL, 1) && !stands(STALL, ATTEMPTS - 1));
    assert!(stands(STALL, ATTEMPTS));
    let mut attempts = 0;
    let result = unless_stalled(|| {
        attempts += 1;
        Err::<(), _>(format!("attempt {attempts}"))
    });
    assert_eq!(result, Err(format!("attempt {attempts}")));
    assert!(attempts <= ATTEMPTS);
}
