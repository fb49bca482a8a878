//! The C code of bpf/lib, built natively and in the kernel, behind one interface.
//!
//! **Invariant:** both builds see the same bytes of `struct pc_slot` and the same map entries.

use std::collections::{BTreeMap, HashMap};

use libbpf_rs::{MapCore, MapFlags, MapHandle, Object, ObjectBuilder, ProgramInput};
use portcullis_bpf::TEST_OBJECT;
use portcullis_bpf::host::{Host, HostFn, SlotField, slot_size};
use portcullis_enforcer::compile::{MapSink, SinkError};

/// One build of the C code with its maps and a slot.
pub trait Engine: MapSink {
    fn name(&self) -> &'static str;

    /// The scratch slot as the last run left it.
    fn slot(&mut self) -> Slot<'_>;

    /// Runs a step on the slot: `head`, `host`, `path`, `match`, `decide`, `policy` (the last two together), or one of
    /// bpf/tests/token_steps.h.
    fn run(&mut self, step: &str) -> i32;
}

/// Bytes of `struct pc_slot`.
pub struct Slot<'a>(&'a mut [u8]);

/// The native build.
pub struct Native {
    host: Host,
    /// What the hash maps hold: the native build has no way to list them.
    entries: BTreeMap<(String, Vec<u8>), Vec<u8>>,
}

/// Programs of the test object through BPF_PROG_TEST_RUN.
pub struct Kernel {
    object: Object,
    maps: HashMap<String, MapHandle>,
    slot: Vec<u8>,
    newer: Newer,
}

/// Which of the two slots is the newer one.
enum Newer {
    /// The one here was given out to be changed.
    Here,
    /// A program ran on the one in the kernel.
    There,
}

// === impl Slot ===

impl Slot<'_> {
    pub fn set(&mut self, field: SlotField, bytes: &[u8]) {
        self.0[field.offset()..][..bytes.len()].copy_from_slice(bytes);
    }

    pub fn set_u32(&mut self, field: SlotField, value: u32) {
        self.set(field, &value.to_ne_bytes());
    }

    pub fn set_u64(&mut self, field: SlotField, value: u64) {
        self.set(field, &value.to_ne_bytes());
    }

    pub fn get(&self, field: SlotField, len: usize) -> &[u8] {
        &self.0[field.offset()..][..len]
    }

    pub fn u32(&self, field: SlotField) -> u32 {
        u32::from_ne_bytes(self.get(field, 4).try_into().unwrap())
    }
}

// === impl Native ===

impl Native {
    pub fn new() -> Self {
        Self { host: Host::new(), entries: BTreeMap::new() }
    }
}

impl MapSink for Native {
    fn update(&mut self, map: &str, key: &[u8], value: &[u8]) -> Result<(), SinkError> {
        self.host.update(map, key, value).map_err(|error| refused(map, format!("{error:?}")))?;
        if HASHES.contains(&map) {
            self.entries.insert((map.to_owned(), key.to_vec()), value.to_vec());
        }
        Ok(())
    }

    fn delete(&mut self, map: &str, key: &[u8]) -> Result<(), SinkError> {
        self.entries.remove(&(map.to_owned(), key.to_vec()));
        self.host.delete(map, key).map_err(|error| refused(map, format!("{error:?}")))
    }

    fn lookup(&mut self, map: &str, key: &[u8]) -> Result<Option<Vec<u8>>, SinkError> {
        // Arrays are asked for what was written before this process began: nothing.
        Ok(self.entries.get(&(map.to_owned(), key.to_vec())).cloned())
    }

    fn keys(&mut self, map: &str) -> Result<Vec<Vec<u8>>, SinkError> {
        Ok(self.entries.keys().filter(|(name, _)| name == map).map(|(_, key)| key.clone()).collect())
    }

    fn wait_for_readers(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

impl Engine for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn slot(&mut self) -> Slot<'_> {
        Slot(self.host.slot())
    }

    fn run(&mut self, step: &str) -> i32 {
        match step {
            "head" => self.host.call(HostFn::HEAD),
            "host" => self.host.call(HostFn::HOST),
            "path" => self.host.call(HostFn::PATH),
            "match" => {
                self.host.call(HostFn::POLICY_MATCH);
                self.host.call(HostFn::CANDIDATE_MATCH);
                let need = [SlotField::NEED, SlotField::CANDIDATE_NEED];
                i32::from(need.into_iter().any(|field| self.host.get_u32(field) == NEED_TOKEN))
            }
            "decide" => {
                self.host.call(HostFn::CANDIDATE_DECIDE);
                self.host.call(HostFn::POLICY_DECIDE);
                self.host.get_u32(SlotField::REASON) as i32
            }
            "policy" => {
                self.run("match");
                self.run("decide")
            }
            _ => self.host.call(HostFn::step(step).unwrap()),
        }
    }
}

// === impl Kernel ===

impl Kernel {
    /// Loads the programs of these steps.
    pub fn load(steps: &[&str]) -> Self {
        let mut open = ObjectBuilder::default().open_memory(TEST_OBJECT).unwrap();
        for mut program in open.progs_mut() {
            let name = program.name().to_string_lossy().into_owned();
            program.set_autoload(steps.iter().any(|step| name == format!("t_{step}")));
        }
        let object = open.load().unwrap();
        let maps = object
            .maps()
            .map(|map| (map.name().to_string_lossy().into_owned(), MapHandle::try_from(&map).unwrap()))
            .collect();
        Self { object, maps, slot: vec![0; slot_size()], newer: Newer::Here }
    }

    fn map(&self, name: &str) -> Result<&MapHandle, SinkError> {
        self.maps.get(name).ok_or_else(|| refused(name, "no such map".to_owned()))
    }
}

impl MapSink for Kernel {
    fn update(&mut self, map: &str, key: &[u8], value: &[u8]) -> Result<(), SinkError> {
        self.map(map)?.update(key, value, MapFlags::ANY).map_err(|error| refused(map, error.to_string()))
    }

    fn delete(&mut self, map: &str, key: &[u8]) -> Result<(), SinkError> {
        match self.map(map)?.delete(key) {
            Err(error) if error.kind() != libbpf_rs::ErrorKind::NotFound => {
                Err(refused(map, error.to_string()))
            }
            _ => Ok(()),
        }
    }

    fn lookup(&mut self, map: &str, key: &[u8]) -> Result<Option<Vec<u8>>, SinkError> {
        self.map(map)?.lookup(key, MapFlags::ANY).map_err(|error| refused(map, error.to_string()))
    }

    fn keys(&mut self, map: &str) -> Result<Vec<Vec<u8>>, SinkError> {
        Ok(self.map(map)?.keys().collect())
    }

    fn update_range(
        &mut self,
        map: &str,
        first: u32,
        values: &[u8],
        value_size: usize,
    ) -> Result<(), SinkError> {
        let count = (values.len() / value_size) as u32;
        if count == 0 {
            return Ok(());
        }
        let keys: Vec<u8> = (first..first + count).flat_map(u32::to_ne_bytes).collect();
        let done = self.map(map)?.update_batch(&keys, values, count, MapFlags::ANY, MapFlags::ANY);
        done.map_err(|error| refused(map, error.to_string()))
    }

    fn wait_for_readers(&mut self) -> Result<(), SinkError> {
        // Test runs are over when they return.
        Ok(())
    }
}

impl Engine for Kernel {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn slot(&mut self) -> Slot<'_> {
        if matches!(self.newer, Newer::There) {
            self.slot = self.maps["pc_slots"].lookup(&[0; 4], MapFlags::ANY).unwrap().unwrap();
        }
        self.newer = Newer::Here;
        Slot(&mut self.slot)
    }

    fn run(&mut self, step: &str) -> i32 {
        if matches!(self.newer, Newer::Here) {
            self.maps["pc_slots"].update(&[0; 4], &self.slot, MapFlags::ANY).unwrap();
        }
        self.newer = Newer::There;
        let name = format!("t_{step}");
        let program = self.object.progs_mut().find(|program| program.name() == name.as_str()).unwrap();
        let input = ProgramInput { data_in: Some(&[0; 64]), ..ProgramInput::default() };
        program.test_run(input).unwrap().return_value as i32
    }
}

fn refused(map: &str, message: String) -> SinkError {
    SinkError { map: map.to_owned(), message }
}

/// `PC_NEED_TOKEN`.
const NEED_TOKEN: u32 = 1;
const HASHES: [&str; 3] = ["pc_names", "pc_ports", "pc_revoked"];
