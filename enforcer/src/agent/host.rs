//! What the agent knows of its host: who listens, and whether that is protected; told to the control plane.
//!
//! **Invariant:** a service is called monitored or protected only after a connection to it came under control, and not
//! any more when an attachment is gone.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use portcullis_wire::{Bundle, Mode, Policy};
use serde_json::{Value, json};

use crate::discover::{Listener, Process};
use crate::learn::Endpoint;

/// Whether requests are decided.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Protection {
    /// Not at all, or it is not known.
    #[default]
    Unprotected,
    /// Decided and logged.
    Monitoring,
    /// Denials are answered instead of the application.
    Protected,
}

/// A service on this host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// Who listens.
    pub listener: Listener,
    /// Whether its requests are decided.
    pub protection: Protection,
    /// Why it is no better than that, when a policy wants it to be.
    pub why: Option<String>,
}

/// Ports that a configuration wants protected, and how.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Wishes(BTreeMap<u16, Protection>);

// === impl Wishes ===

impl Wishes {
    /// A port is as protected as its strongest policy makes it.
    pub(super) fn of(bundle: &Bundle) -> Wishes {
        let mut ports: BTreeMap<u16, Protection> = BTreeMap::new();
        for Policy { port_match, mode, .. } in &bundle.policies {
            let wish = match mode {
                Mode::Disabled => continue,
                Mode::Monitor => Protection::Monitoring,
                Mode::Enforce => Protection::Protected,
            };
            let port = ports.entry(*port_match).or_default();
            *port = wish.max(*port);
        }
        Wishes(ports)
    }

    /// Services with what a probe says of those that a policy is about. `None`: nobody answers there.
    pub(super) fn judge(
        &self,
        listeners: Vec<Listener>,
        own_netns: Option<u64>,
        probe: impl Fn(SocketAddr, Option<u32>) -> Result<Option<bool>, String>,
    ) -> Vec<Service> {
        let judge = |listener: Listener| {
            let Some(wish) = self.0.get(&listener.port) else {
                return Service { listener, protection: Protection::Unprotected, why: None };
            };
            let pid = listener.process.as_ref().map(|process| process.pid);
            let elsewhere = own_netns != Some(listener.netns);
            let probed = match (elsewhere, pid) {
                (true, None) => Err("no process of its network namespace can be seen".to_owned()),
                (true, pid) => probe(address(&listener), pid),
                (false, _) => probe(address(&listener), None),
            };
            let (protection, why) = match probed {
                Ok(Some(true)) => (*wish, None),
                Ok(Some(false)) => {
                    let why = "a connection to it did not come under control: it listens outside of the agent's \
                               cgroup, or began to before the agent did and has to be started again";
                    (Protection::Unprotected, Some(why.to_owned()))
                }
                Ok(None) => (Protection::Unprotected, Some("it does not accept connections".to_owned())),
                Err(why) => (Protection::Unprotected, Some(why)),
            };
            Service { listener, protection, why }
        };
        listeners.into_iter().map(judge).collect()
    }

    /// How the host is: as the worst of the services that policies are about; unprotected when there are none.
    pub(super) fn overall(&self, services: &[Service]) -> Protection {
        let about = services.iter().filter(|service| self.0.contains_key(&service.listener.port));
        about.map(|service| service.protection).min().unwrap_or_default()
    }
}

// === impl Protection ===

impl Protection {
    /// As the control plane writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protection::Unprotected => "unprotected",
            Protection::Monitoring => "monitoring",
            Protection::Protected => "protected",
        }
    }
}

/// Services as the control plane takes them. Namespaces are not a part of that: the first of a port stands for all, the
/// least protected one first.
pub(super) fn services_wire(services: &[Service]) -> Vec<Value> {
    let mut sorted: Vec<&Service> = services.iter().collect();
    sorted.sort_by_key(|service| (service.listener.port, service.protection));
    sorted.dedup_by_key(|service| service.listener.port);
    let row = |Service { listener, protection, why: _ }: &Service| {
        let mut row = json!({ "port": listener.port, "protocol": "tcp", "status": protection.name() });
        if let Some(Process { pid: _, name, cmdline, cgroup: _ }) = &listener.process {
            row["process_name"] = json!(name);
            row["process_cmdline"] = json!(cmdline);
        }
        row
    };
    sorted.into_iter().map(row).collect()
}

/// Endpoints as the control plane takes them: at most so many, the busiest.
pub(super) fn endpoints_wire(mut endpoints: Vec<Endpoint>, most: usize) -> Vec<Value> {
    endpoints.sort_by_key(|endpoint| std::cmp::Reverse(endpoint.usage.hits));
    endpoints.truncate(most);
    let row = |Endpoint { port, method, pattern, usage }: &Endpoint| json!({ "method": method, "pattern": pattern, "port": port, "hit_count": usage.hits });
    endpoints.iter().map(row).collect()
}

/// Where a listener can be reached from its own host.
fn address(listener: &Listener) -> SocketAddr {
    let loopback = |address: &IpAddr| match address {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address => *address,
    };
    let address = listener.addresses.iter().next().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), loopback);
    SocketAddr::new(address, listener.port)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use portcullis_wire::Action;

    use super::*;

    fn bundle(policies: &[(u16, Mode)]) -> Bundle {
        let policy = |(port_match, mode): &(u16, Mode)| Policy {
            id: String::new(),
            name: format!("{port_match}-{mode:?}"),
            port_match: *port_match,
            host_match: None,
            mode: *mode,
            default_action: Action::Deny,
            rules: Vec::new(),
        };
        Bundle { policies: policies.iter().map(policy).collect(), ..Bundle::default() }
    }

    fn listener(port: u16, netns: u64) -> Listener {
        let process =
            Process { pid: 5, name: "app".to_owned(), cmdline: "/bin/app".to_owned(), cgroup: None };
        let addresses = BTreeSet::from([IpAddr::from(Ipv4Addr::UNSPECIFIED)]);
        Listener { port, addresses, netns, process: Some(process) }
    }

    #[test]
    fn nothing_is_claimed_that_no_connection_showed() {
        let wishes = Wishes::of(&bundle(&[(1, Mode::Enforce), (2, Mode::Monitor), (3, Mode::Disabled)]));
        let probe = |said: Result<Option<bool>, String>| move |_: SocketAddr, _: Option<u32>| said.clone();
        let judge = |port, said| wishes.judge(vec![listener(port, 1)], Some(1), probe(said))[0].clone();
        assert_eq!(judge(1, Ok(Some(true))).protection, Protection::Protected);
        assert_eq!(judge(2, Ok(Some(true))).protection, Protection::Monitoring);
        assert_eq!(judge(3, Ok(Some(true))).protection, Protection::Unprotected);
        for said in [Ok(Some(false)), Ok(None), Err("no".to_owned())] {
            let service = judge(1, said);
            assert_eq!(service.protection, Protection::Unprotected);
            assert!(service.why.is_some());
        }
    }

    #[test]
    fn a_service_of_another_namespace_is_probed_there() {
        let wishes = Wishes::of(&bundle(&[(1, Mode::Enforce)]));
        let seen = std::cell::RefCell::new(Vec::new());
        let probe = |addr: SocketAddr, pid: Option<u32>| {
            seen.borrow_mut().push((addr.to_string(), pid));
            Ok(Some(true))
        };
        wishes.judge(vec![listener(1, 1), listener(1, 2)], Some(1), probe);
        let there = "127.0.0.1:1".to_owned();
        assert_eq!(*seen.borrow(), [(there.clone(), None), (there, Some(5))]);
    }

    #[test]
    fn the_host_is_as_its_worst_service() {
        let wishes = Wishes::of(&bundle(&[(1, Mode::Enforce), (1, Mode::Monitor), (2, Mode::Enforce)]));
        let judge = |broken: u16| {
            let listeners = vec![listener(1, 1), listener(2, 1), listener(9, 1)];
            let services = wishes.judge(listeners, Some(1), |addr, _| Ok(Some(addr.port() != broken)));
            (wishes.overall(&services), services_wire(&services).len())
        };
        assert_eq!(judge(0), (Protection::Protected, 3));
        assert_eq!(judge(2), (Protection::Unprotected, 3));
        assert_eq!(wishes.overall(&[]), Protection::Unprotected);
    }
}
