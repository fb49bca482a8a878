use std::collections::BTreeMap;

use portcullis_wire::{Action, Bundle, Policy, Rule};

use super::super::compile;
use super::*;

/// Maps in memory; remembers what was done in which order.
#[derive(Clone, Default)]
struct Memory {
    maps: BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>,
    log: Vec<String>,
    /// Map that refuses updates.
    broken: Option<&'static str>,
}

impl MapSink for Memory {
    fn update(&mut self, map: &str, key: &[u8], value: &[u8]) -> Result<(), SinkError> {
        if self.broken == Some(map) {
            return Err(SinkError { map: map.to_owned(), message: "no space".to_owned() });
        }
        self.log.push(format!("update {map}"));
        self.maps.entry(map.to_owned()).or_default().insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn delete(&mut self, map: &str, key: &[u8]) -> Result<(), SinkError> {
        self.log.push(format!("delete {map}"));
        self.maps.entry(map.to_owned()).or_default().remove(key);
        Ok(())
    }

    fn lookup(&mut self, map: &str, key: &[u8]) -> Result<Option<Vec<u8>>, SinkError> {
        Ok(self.maps.get(map).and_then(|map| map.get(key)).cloned())
    }

    fn keys(&mut self, map: &str) -> Result<Vec<Vec<u8>>, SinkError> {
        Ok(self.maps.get(map).into_iter().flat_map(|map| map.keys().cloned()).collect())
    }

    fn wait_for_readers(&mut self) -> Result<(), SinkError> {
        self.log.push("wait".to_owned());
        Ok(())
    }
}

impl Memory {
    fn active(&mut self) -> u64 {
        let value = self.lookup("pc_active", &[0; 4]).unwrap();
        value.map_or(0, |value| u64::read_from_bytes(&value).unwrap())
    }

    fn port(&mut self, port: u32) -> Option<abi::Port> {
        let value = self.lookup("pc_ports", &port.to_ne_bytes()).unwrap();
        value.map(|value| abi::Port::read_from_bytes(&value).unwrap())
    }

    /// What a decision in this half can read: array elements of the half, names of the half, fields of the half.
    fn of_half(&self, half: u32) -> BTreeMap<(String, Vec<u8>), Vec<u8>> {
        let mut seen = BTreeMap::new();
        for (map, entries) in &self.maps {
            for (key, value) in entries {
                let index = || u32::read_from_bytes(key).unwrap();
                let per_half = match map.as_str() {
                    "pc_active" | "pc_p256_g" => continue,
                    "pc_names" | "pc_revoked" => {
                        if u32::from(key[0]) == half {
                            seen.insert((map.clone(), key.clone()), value.clone());
                        }
                        continue;
                    }
                    "pc_ports" => {
                        let port = abi::Port::read_from_bytes(value).unwrap();
                        let half = half as usize;
                        let fields = [port.host_row[half], port.policy[half], port.enforce[half]];
                        seen.insert((map.clone(), key.clone()), fields.as_bytes().to_vec());
                        continue;
                    }
                    "pc_classes" => 1,
                    "pc_dfa" => limits::DFA_CELLS_MAX,
                    "pc_policies" => limits::POLICIES_MAX,
                    "pc_sets" => limits::RULE_SETS_MAX,
                    "pc_rules" => limits::RULES_MAX,
                    "pc_issuers" => limits::ISSUERS_MAX,
                    "pc_rsa2048" | "pc_rsa3072" | "pc_rsa4096" => limits::RSA_KEYS_MAX,
                    "pc_p256_q" => limits::P256_KEYS_MAX * limits::P256_POINTS_Q,
                    other => panic!("{other} is not a configuration map"),
                };
                if index() / per_half as u32 == half {
                    seen.insert((map.clone(), key.clone()), value.clone());
                }
            }
        }
        seen
    }
}

/// An image over these ports whose rules ask for `role`, with keys that are marked with a number.
fn image(ports: &[u16], role: &str, mark: u32) -> Image {
    let policy = |port: &u16| Policy {
        id: format!("p{port}"),
        name: format!("p{port}"),
        port_match: *port,
        host_match: None,
        mode: portcullis_wire::Mode::Enforce,
        default_action: Action::Deny,
        rules: vec![Rule {
            method: "GET".to_owned(),
            path_pattern: format!("/{role}/*"),
            required_roles: vec![role.to_owned()],
            ..Rule::default()
        }],
    };
    let bundle = Bundle { policies: ports.iter().map(policy).collect(), ..Bundle::default() };
    let mut image = compile(&bundle).unwrap().image;
    image.issuers.push(abi::Issuer { id: 0, leeway_s: mark });
    image.keys.rsa2048.push(abi::Rsa2048Key { m: mark, ..abi::Rsa2048Key::zeroed() });
    image.keys.rsa4096.push(abi::Rsa4096Key { m: mark, ..abi::Rsa4096Key::zeroed() });
    let point = abi::P256Point { x: [u64::from(mark); 4], y: [1; 4] };
    image.keys.p256 = vec![point; limits::P256_POINTS_Q];
    let revoked = Revoked { kind: abi::name_kind::REVOKED_SUB, issuer: 0, value: format!("user-{mark}") };
    image.revocations.insert(revoked, u64::MAX);
    let kid = |alg| Meaning::Kid { issuer: 0, alg, key: 0 };
    image.names.push(Name { meaning: kid(abi::alg::RS256_2048), text: format!("rsa-{mark}") });
    image.names.push(Name { meaning: kid(abi::alg::ES256), text: format!("ec-{mark}") });
    image
}

/// A generator table that is there already: making one takes long in a debug build.
fn with_generator() -> Memory {
    let mut memory = Memory::default();
    let last = limits::P256_POINTS_G as u32 - 1;
    memory.update("pc_p256_g", &last.to_ne_bytes(), &[1; 64]).unwrap();
    memory
}

#[test]
fn a_new_generation_changes_nothing_of_the_half_in_use() {
    let mut memory = with_generator();
    image(&[80, 81], "doctor", 1).write(0, &mut memory).unwrap();
    let before = memory.of_half(0);
    image(&[80, 82], "nurse", 2).write(1, &mut memory).unwrap();
    let after = memory.of_half(0);
    for (entry, value) in &before {
        assert_eq!(after.get(entry), Some(value), "{entry:?}");
    }
    // A port that only the new half protects is there, and not covered by the old one.
    let new: Vec<_> = after.iter().filter(|(entry, _)| !before.contains_key(entry)).collect();
    assert_eq!(new.len(), 1, "{new:?}");
    assert_eq!((new[0].0.1.as_slice(), new[0].1.as_slice()), (&82u32.to_ne_bytes()[..], &[0; 12][..]));
    assert_eq!(memory.log.iter().filter(|line| line.contains("pc_p256_g")).count(), 1);
}

#[test]
fn keys_of_the_halves_stand_apart() {
    let mut memory = with_generator();
    image(&[80], "doctor", 1).write(0, &mut memory).unwrap();
    image(&[80], "doctor", 2).write(1, &mut memory).unwrap();
    for (half, mark) in [(0usize, 1u32), (1, 2)] {
        let index = |keys: usize| ((half * keys) as u32).to_ne_bytes();
        let rsa = memory.lookup("pc_rsa2048", &index(limits::RSA_KEYS_MAX)).unwrap().unwrap();
        assert_eq!(abi::Rsa2048Key::read_from_bytes(&rsa).unwrap().m, mark);
        let first = index(limits::P256_KEYS_MAX * limits::P256_POINTS_Q);
        let point = memory.lookup("pc_p256_q", &first).unwrap().unwrap();
        assert_eq!(abi::P256Point::read_from_bytes(&point).unwrap().x[0], u64::from(mark));
        let kid = |name: &str| {
            let mut key = abi::Name { half: half as u8, kind: abi::name_kind::KID, ..abi::Name::zeroed() };
            key.scope = (half * limits::ISSUERS_MAX) as u32;
            key.len = name.len() as u16;
            key.s[..name.len()].copy_from_slice(name.as_bytes());
            key
        };
        let mut value = |name: &str| {
            let value = memory.lookup("pc_names", kid(name).as_bytes()).unwrap().unwrap();
            u32::read_from_bytes(&value).unwrap()
        };
        let rsa_key = (half * limits::RSA_KEYS_MAX) as u32;
        assert_eq!(value(&format!("rsa-{mark}")), abi::alg::RS256_2048 << 16 | rsa_key);
        let p256_key = (half * limits::P256_KEYS_MAX) as u32;
        assert_eq!(value(&format!("ec-{mark}")), abi::alg::ES256 << 16 | p256_key);
    }
}

#[test]
fn a_half_holds_what_was_written_last_whatever_was_there() {
    let mut fresh = with_generator();
    image(&[80], "nurse", 3).write(0, &mut fresh).unwrap();
    // Another generation whose write breaks off in the middle, then the same one.
    let mut used = with_generator();
    image(&[80, 81], "doctor", 1).write(0, &mut used).unwrap();
    used.broken = Some("pc_ports");
    image(&[81], "auditor", 2).write(0, &mut used).unwrap_err();
    used.broken = None;
    image(&[80], "nurse", 3).write(0, &mut used).unwrap();
    for map in ["pc_names", "pc_revoked", "pc_ports"] {
        assert_eq!(used.maps[map], fresh.maps[map], "{map}");
    }
}

#[test]
fn a_generation_never_follows_itself() {
    let mut memory = with_generator();
    image(&[80], "doctor", 1).install(7, &mut memory).unwrap();
    let before = memory.active();
    let error = image(&[80], "nurse", 2).install(7, &mut memory).unwrap_err();
    assert!(error.to_string().contains("another number"), "{error}");
    assert_eq!(memory.active(), before);
    image(&[80], "nurse", 2).install(8, &mut memory).unwrap();
}

#[test]
fn ports_go_when_no_half_protects_them() {
    let mut memory = with_generator();
    image(&[80], "doctor", 1).write(0, &mut memory).unwrap();
    image(&[81], "doctor", 1).write(1, &mut memory).unwrap();
    let port = memory.port(80).unwrap();
    assert_eq!((port.policy, port.enforce, port.flags), ([1, 0], [1, 0], abi::port_flag::ENFORCE));
    image(&[81], "doctor", 1).write(0, &mut memory).unwrap();
    assert!(memory.port(80).is_none());
    let port = memory.port(81).unwrap();
    assert_eq!(port.policy, [1, limits::POLICIES_MAX as u32 + 1]);
}

#[test]
fn installing_takes_the_idle_half_and_waits_before_it_writes() {
    let mut memory = with_generator();
    let mut halves = Vec::new();
    for generation in 7..10 {
        memory.log.clear();
        image(&[80], "doctor", generation as u32).install(generation, &mut memory).unwrap();
        assert_eq!(memory.active() >> 1, generation);
        halves.push(memory.active() & 1);
        assert_eq!(memory.log.first().unwrap(), "wait");
        assert_eq!(memory.log.last().unwrap(), "update pc_active");
    }
    assert_eq!(halves, [1, 0, 1]);
}

#[test]
fn what_cannot_be_written_does_not_come_into_force() {
    let mut memory = with_generator();
    image(&[80], "doctor", 1).install(1, &mut memory).unwrap();
    let active = memory.active();
    let before = memory.of_half(active as u32 & 1);
    memory.broken = Some("pc_names");
    let error = image(&[80], "nurse", 2).install(2, &mut memory).unwrap_err();
    assert_eq!(error.to_string(), "map pc_names: no space");
    assert_eq!(memory.active(), active);
    assert_eq!(memory.of_half(active as u32 & 1), before);
}

#[test]
fn the_generator_is_written_before_the_first_key_that_needs_it() {
    let mut without = image(&[80], "doctor", 1);
    without.keys.p256.clear();
    let mut memory = Memory::default();
    without.write(0, &mut memory).unwrap();
    assert!(!memory.maps.contains_key("pc_p256_g"));
    image(&[80], "doctor", 2).write(1, &mut memory).unwrap();
    assert_eq!(memory.maps["pc_p256_g"].len(), limits::P256_POINTS_G);
    let first = |map: &str| memory.log.iter().position(|line| *line == format!("update {map}")).unwrap();
    assert!(first("pc_p256_g") < first("pc_p256_q"));
}
