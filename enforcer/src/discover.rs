//! Which services listen on this host: from procfs, over IPv4 and IPv6 and every network namespace that a visible process
//! is in.
//!
//! **Invariant:** processes and namespaces that come and go while this looks are no error.
//! **Invariant:** what stands behind a name that sounds like a secret on a command line is not told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// A listening TCP port in one network namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listener {
    /// Port.
    pub port: u16,
    /// Addresses that it listens on; an unspecified one is every address of its family.
    pub addresses: BTreeSet<IpAddr>,
    /// Inode of the network namespace.
    pub netns: u64,
    /// A process that holds the socket, if one could be seen.
    pub process: Option<Process>,
}

/// A process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Process {
    /// Number.
    pub pid: u32,
    /// Name.
    pub name: String,
    /// Command line, secrets left out.
    pub cmdline: String,
    /// Path of its cgroup in the cgroup2 hierarchy.
    pub cgroup: Option<String>,
}

/// Where procfs is.
pub const PROC: &str = "/proc";

/// `TCP_LISTEN` as /proc/net/tcp writes it (include/net/tcp_states.h).
const LISTEN: &str = "0A";
/// Longest command line that is told, bytes.
const CMDLINE_MAX: usize = 240;
/// Words of names whose values are not told.
const SECRET: [&str; 5] = ["pass", "secret", "token", "key", "credential"];

/// The listeners, by namespace and port. Processes of others need root, or CAP_SYS_PTRACE, to be seen.
///
/// # Errors
/// When `proc` cannot be listed.
pub fn listeners(proc: &Path) -> io::Result<Vec<Listener>> {
    let mut namespaces: BTreeMap<u64, u32> = BTreeMap::new();
    let mut owners: BTreeMap<u64, u32> = BTreeMap::new();
    for entry in fs::read_dir(proc)?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let dir = entry.path();
        let Some(netns) = inode(&dir.join("ns/net"), "net:[") else { continue };
        namespaces.entry(netns).or_insert(pid);
        let Ok(descriptors) = fs::read_dir(dir.join("fd")) else { continue };
        for socket in descriptors.flatten().filter_map(|fd| inode(&fd.path(), "socket:[")) {
            // The oldest holder is the one that made it, as far as numbers tell.
            owners.entry(socket).and_modify(|owner| *owner = (*owner).min(pid)).or_insert(pid);
        }
    }
    let mut found: BTreeMap<(u64, u16), Listener> = BTreeMap::new();
    for (netns, pid) in namespaces {
        for table in ["tcp", "tcp6"] {
            let text = fs::read_to_string(proc.join(format!("{pid}/net/{table}"))).unwrap_or_default();
            for (address, port, socket) in text.lines().filter_map(listening) {
                let listener = found.entry((netns, port)).or_insert_with(|| Listener {
                    port,
                    addresses: BTreeSet::new(),
                    netns,
                    process: None,
                });
                listener.addresses.insert(address);
                if let (None, Some(pid)) = (&listener.process, owners.get(&socket)) {
                    listener.process = process(proc, *pid);
                }
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Number of the namespace that this process is in.
pub fn own_netns(proc: &Path) -> Option<u64> {
    inode(&proc.join("self/ns/net"), "net:[")
}

fn process(proc: &Path, pid: u32) -> Option<Process> {
    let dir = proc.join(pid.to_string());
    let name = fs::read_to_string(dir.join("comm")).ok()?;
    let cmdline = fs::read(dir.join("cmdline")).unwrap_or_default();
    let cgroup = fs::read_to_string(dir.join("cgroup")).unwrap_or_default();
    let cgroup = cgroup.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned);
    Some(Process { pid, name: printable(name.trim_end()), cmdline: told(&cmdline), cgroup })
}

/// Address, port and socket of a listening line of /proc/net/tcp or tcp6.
fn listening(line: &str) -> Option<(IpAddr, u16, u64)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != LISTEN {
        return None;
    }
    let (address, port) = fields.get(1)?.split_once(':')?;
    Some((parse_address(address)?, u16::from_str_radix(port, 16).ok()?, fields.get(9)?.parse().ok()?))
}

/// Words of 32 bits in the machine's order, each in hexadecimal.
fn parse_address(text: &str) -> Option<IpAddr> {
    if !text.is_ascii() {
        return None;
    }
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let mut octets = [0; 16];
            octets.iter_mut().zip(words.iter().flatten()).for_each(|(octet, byte)| *octet = *byte);
            Some(IpAddr::V6(Ipv6Addr::from(octets)))
        }
        _ => None,
    }
}

/// The number in a link like `socket:[4711]`.
fn inode(link: &Path, kind: &str) -> Option<u64> {
    let target = fs::read_link(link).ok()?;
    target.to_str()?.strip_prefix(kind)?.strip_suffix(']')?.parse().ok()
}

/// A command line as it may be told.
fn told(cmdline: &[u8]) -> String {
    let text = String::from_utf8_lossy(cmdline).into_owned();
    let mut words = Vec::new();
    let mut hide_next = false;
    for word in text.split('\0').filter(|word| !word.is_empty()) {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let lower = name.to_ascii_lowercase();
        let secret = SECRET.iter().any(|part| lower.contains(part));
        words.push(match value {
            _ if hide_next => "***".to_owned(),
            Some(_) if secret => format!("{name}=***"),
            _ => word.to_owned(),
        });
        hide_next = secret && value.is_none() && word.starts_with('-');
    }
    let mut text = printable(&words.join(" "));
    if text.len() > CMDLINE_MAX {
        let end = (0..=CMDLINE_MAX - 3).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn listeners_of_this_process_are_found_over_both_families() {
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = v4.local_addr().unwrap().port();
        // Not every machine has IPv6; where it has, the same port is one listener with two addresses.
        let v6 = TcpListener::bind(("::1", port));
        let connected = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let found = listeners(Path::new(PROC)).unwrap();
        let own = own_netns(Path::new(PROC)).unwrap();
        let one = found.iter().find(|listener| (listener.netns, listener.port) == (own, port)).unwrap();
        let mut wanted = BTreeSet::from([IpAddr::from(Ipv4Addr::LOCALHOST)]);
        wanted.extend(v6.is_ok().then_some(IpAddr::from(Ipv6Addr::LOCALHOST)));
        assert_eq!(one.addresses, wanted);
        let process = one.process.as_ref().unwrap();
        assert_eq!(process.pid, std::process::id());
        let client = connected.local_addr().unwrap().port();
        assert!(!found.iter().any(|listener| listener.port == client), "a client is no listener");
    }

    #[test]
    fn namespaces_are_apart_and_what_is_gone_is_no_error() {
        let dir = std::env::temp_dir().join(format!("pc-proc-{}", std::process::id()));
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let line = |port: u16, state: &str, inode: u64| {
            let address = format!("{:08X}", u32::from_ne_bytes([10, 0, 0, 1]));
            format!("   0: {address}:{port:04X} 00000000:0000 {state} 0:0 00:0 0 0 0 {inode} 1\n")
        };
        for (pid, netns, table) in [
            (7, 1, line(80, LISTEN, 70) + &line(81, "01", 71)),
            (8, 2, line(80, LISTEN, 80)),
            (9, 2, String::new()),
        ] {
            let of = dir.join(pid.to_string());
            for made in ["ns", "net", "fd"] {
                fs::create_dir_all(of.join(made)).unwrap();
            }
            symlink(format!("net:[{netns}]"), of.join("ns/net")).unwrap();
            symlink(format!("socket:[{}]", pid * 10), of.join("fd/3")).unwrap();
            fs::write(of.join("net/tcp"), head.to_owned() + &table).unwrap();
            fs::write(of.join("comm"), "se\x1brver\n").unwrap();
            fs::write(of.join("cmdline"), "/bin/server\0--db-password\0hunter2\0--api-token=abc\0-v\0")
                .unwrap();
            fs::write(of.join("cgroup"), "1:cpu:/x\n0::/system.slice/server.service\n").unwrap();
        }
        fs::create_dir_all(dir.join("10")).unwrap();
        let found = listeners(&dir).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        let seen: Vec<_> =
            found.iter().map(|l| (l.netns, l.port, l.process.as_ref().map(|p| p.pid))).collect();
        assert_eq!(seen, [(1, 80, Some(7)), (2, 80, Some(8))]);
        assert_eq!(found[0].addresses, BTreeSet::from([IpAddr::from([10, 0, 0, 1])]));
        let process = found[0].process.as_ref().unwrap();
        assert_eq!(process.name, "se\u{fffd}rver");
        assert_eq!(process.cmdline, "/bin/server --db-password *** --api-token=*** -v");
        assert_eq!(process.cgroup.as_deref(), Some("/system.slice/server.service"));
    }

    #[test]
    fn long_command_lines_are_cut() {
        let text = told("ä".repeat(1000).as_bytes());
        assert!(text.len() <= CMDLINE_MAX && text.ends_with('…'), "{}", text.len());
    }
}
