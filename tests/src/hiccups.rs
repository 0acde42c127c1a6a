//! How late this machine is: what a test of times may blame on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use scale_ring::host;

/// How often each core is asked to do something at a time that is known before.
const EVERY: Duration = Duration::from_millis(1);

/// A thread on each core that sleeps for [`EVERY`] and sees how long that was.
pub struct Hiccups {
    is_over: Arc<AtomicBool>,
    worst_ns: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Hiccups {
    /// Looks from now on.
    pub fn watch() -> Self {
        let (is_over, worst_ns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let watch = |core: usize| {
            let (is_over, worst_ns) = (is_over.clone(), worst_ns.clone());
            std::thread::spawn(move || {
                host::pin_current_thread(core);
                while !is_over.load(Ordering::Relaxed) {
                    let before = host::monotonic_now();
                    std::thread::sleep(EVERY);
                    let slept = host::monotonic_now().ns_since(before);
                    worst_ns.fetch_max(slept.saturating_sub(EVERY.as_nanos() as u64), Ordering::Relaxed);
                }
            })
        };
        let threads = host::available_cores().into_iter().map(watch).collect();
        Self { is_over, worst_ns, threads }
    }

    /// The latest that any core was, in seconds.
    pub fn end(self) -> f64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| drop(thread.join()));
        self.worst_ns.load(Ordering::Relaxed) as f64 / 1e9
    }
}
