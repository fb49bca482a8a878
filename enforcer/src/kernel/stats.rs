//! Counters of the kernel programs.

use portcullis_bpf::abi::Stats;
use zerocopy::{FromBytes, IntoBytes};

use super::error::KernelError;
use super::map::Maps;

/// Sum over all CPUs.
pub(crate) fn read(maps: &Maps) -> Result<Stats, KernelError> {
    let cpus = aya::util::nr_cpus().map_err(|(_, source)| KernelError::system("count the CPUs")(source))?;
    let per_cpu: Vec<Stats> =
        maps.get("pc_stats")?.get_per_cpu(0, cpus).map_err(KernelError::system("read the counters"))?;
    let mut sum = Stats::zeroed();
    for stats in per_cpu {
        let words = sum.as_mut_bytes().chunks_exact_mut(8).zip(stats.as_bytes().chunks_exact(8));
        for (total, one) in words {
            let added = word(total).wrapping_add(word(one));
            total.copy_from_slice(&added.to_ne_bytes());
        }
    }
    Ok(sum)
}

/// Counters with their names, in the order of abi.h.
pub fn named(stats: &Stats) -> Vec<(&'static str, u64)> {
    let bytes = stats.as_bytes();
    Stats::layout().into_iter().map(|(name, at, size)| (name, word(&bytes[at..at + size]))).collect()
}

/// Every field of `pc_stats` is a u64.
fn word(bytes: &[u8]) -> u64 {
    u64::read_from_bytes(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_the_names_of_the_programs() {
        let stats = Stats { denied: 5, ..Stats::zeroed() };
        let names = named(&stats);
        assert!(names.contains(&("denied", 5)) && names.contains(&("guard_dropped", 0)), "{names:?}");
        assert_eq!(names.len() * 8, size_of::<Stats>());
    }
}
