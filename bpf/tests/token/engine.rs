//! One step of the token stages on one engine: the native build, or a program of the test object in the kernel.
//!
//! **Invariant:** both engines see the same bytes of `struct pc_slot` and the same map entries.

use std::time::Duration;

use libbpf_rs::{Map, MapCore, MapFlags, Object, ObjectBuilder, ProgramInput};
use portcullis_bpf::abi::P256Point;
use portcullis_bpf::host::{Host, HostFn, SlotField, slot_size};
use portcullis_bpf::limits::{HEAD_TAIL, P256_POINTS_Q};
use zerocopy::IntoBytes;

/// Runs one step.
pub struct Engine {
    kind: Kind,
    slot: Vec<u8>,
}

enum Kind {
    Native(Host, Vec<HostFn>),
    Kernel(Object, Vec<String>),
}

// === impl Engine ===

impl Engine {
    /// The native build of steps, whose names stand between spaces.
    pub fn native(steps: &str) -> Self {
        let functions = steps.split(' ').map(|s| HostFn::step(s).expect("step of token_steps.h")).collect();
        Self { kind: Kind::Native(Host::new(), functions), slot: vec![0; slot_size()] }
    }

    /// The kernel; loads the programs of these steps only.
    ///
    /// The thread stays on one CPU: per-CPU maps are to be the same in every run.
    pub fn kernel(steps: &str) -> Self {
        stay_on_this_cpu();
        let names: Vec<String> = steps.split(' ').map(|s| format!("t_{s}")).collect();
        let mut open =
            ObjectBuilder::default().open_memory(portcullis_bpf::TEST_OBJECT).expect("test object opens");
        for mut program in open.progs_mut() {
            let wanted = names.iter().any(|name| program.name() == name.as_str());
            program.set_autoload(wanted);
        }
        for mut map in open.maps_mut() {
            // Memory that these tests do not need.
            if map.name() == "pc_dfa" {
                map.set_max_entries(16).expect("max_entries");
            }
        }
        let object = open.load().expect("the verifier accepts the programs");
        Self { kind: Kind::Kernel(object, names), slot: vec![0; slot_size()] }
    }

    /// Sets one entry of a map.
    pub fn update(&mut self, map: &str, key: &[u8], value: &[u8]) {
        match &mut self.kind {
            Kind::Native(host, _) => host.update(map, key, value).expect("native map"),
            Kind::Kernel(object, _) => {
                find(object, map).update(key, value, MapFlags::ANY).expect("kernel map")
            }
        }
    }

    /// Sets entries `first ..` of a table of points.
    pub fn points(&mut self, map: &str, first: usize, points: &[P256Point]) {
        match &mut self.kind {
            Kind::Native(..) => {
                for (index, point) in (first as u32..).zip(points) {
                    self.update(map, &index.to_ne_bytes(), point.as_bytes());
                }
            }
            Kind::Kernel(object, _) => {
                let keys: Vec<u32> = (first as u32..).take(points.len()).collect();
                let count = points.len() as u32;
                find(object, map)
                    .update_batch(keys.as_bytes(), points.as_bytes(), count, MapFlags::ANY, MapFlags::ANY)
                    .expect("kernel array");
            }
        }
    }

    /// Sets the table of key `index`.
    pub fn key_table(&mut self, index: u32, points: &[P256Point]) {
        self.points("pc_p256_q", index as usize * P256_POINTS_Q, points);
    }

    /// Runs the first step on the slot; its result.
    pub fn run(&mut self) -> i32 {
        self.run_step(0)
    }

    /// Runs the step of this number; its result.
    pub fn run_step(&mut self, step: usize) -> i32 {
        self.timed(step, 1).0
    }

    /// Runs a step `repeat` times, each on what the one before left; the last result and the average time.
    /// The native engine runs once and measures nothing.
    pub fn timed(&mut self, step: usize, repeat: u32) -> (i32, Duration) {
        match &mut self.kind {
            Kind::Native(host, functions) => {
                host.slot().copy_from_slice(&self.slot);
                let result = host.call(functions[step]);
                self.slot.copy_from_slice(host.slot());
                (result, Duration::ZERO)
            }
            Kind::Kernel(object, programs) => {
                let zero = 0u32.to_ne_bytes();
                find(object, "pc_slots").update(&zero, &self.slot, MapFlags::ANY).expect("slot");
                let program =
                    object.progs_mut().find(|p| p.name() == programs[step].as_str()).expect("program");
                let input = ProgramInput { data_in: Some(&[0; 64]), repeat, ..ProgramInput::default() };
                let output = program.test_run(input).expect("test run");
                let duration = output.duration;
                let result = output.return_value as i32;
                self.slot =
                    find(object, "pc_slots").lookup(&zero, MapFlags::ANY).expect("slot").expect("slot");
                (result, duration)
            }
        }
    }

    /// Sets `slot.head`, with the zero tail.
    pub fn set_head(&mut self, bytes: &[u8]) {
        self.set_bytes(SlotField::HEAD, bytes);
        let end = SlotField::HEAD.offset() + bytes.len();
        self.slot[end..end + HEAD_TAIL].fill(0);
        self.set_u32(SlotField::N, bytes.len() as u32);
    }

    /// Copies bytes into the slot from a field's start.
    pub fn set_bytes(&mut self, field: SlotField, bytes: &[u8]) {
        self.slot[field.offset()..][..bytes.len()].copy_from_slice(bytes);
    }

    /// Sets a `u32` field.
    pub fn set_u32(&mut self, field: SlotField, value: u32) {
        self.set_bytes(field, &value.to_ne_bytes());
    }

    /// Sets a `u64` field.
    pub fn set_u64(&mut self, field: SlotField, value: u64) {
        self.set_bytes(field, &value.to_ne_bytes());
    }

    /// The whole slot.
    pub fn slot(&self) -> &[u8] {
        &self.slot
    }

    /// Bytes of the slot from a field's start.
    pub fn bytes(&self, field: SlotField, len: usize) -> &[u8] {
        &self.slot[field.offset()..][..len]
    }

    /// A `u32` field.
    pub fn u32(&self, field: SlotField) -> u32 {
        u32::from_ne_bytes(self.bytes(field, 4).try_into().expect("four bytes"))
    }

    /// A `u64` field.
    pub fn u64(&self, field: SlotField) -> u64 {
        u64::from_ne_bytes(self.bytes(field, 8).try_into().expect("eight bytes"))
    }
}

fn stay_on_this_cpu() {
    // SAFETY: a zeroed cpu_set_t is the empty set; the calls read and write that set only. CPU_SET checks its bounds.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu().try_into().expect("a CPU"), &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    assert_eq!(result, 0, "sched_setaffinity");
}

fn find<'o>(object: &'o Object, name: &str) -> Map<'o> {
    object.maps().find(|map| map.name() == name).expect("map of the object")
}

/// Makes each function a test on both engines: `on_both! { step: function, ... }`.
macro_rules! on_both {
    ($($step:literal: $function:ident),* $(,)?) => {
        mod native {
            $(#[test]
            fn $function() {
                super::$function(&mut crate::engine::Engine::native($step));
            })*
        }
        mod kernel {
            $(#[test]
            fn $function() {
                portcullis_testkit::need!(Root, Bpf);
                super::$function(&mut crate::engine::Engine::kernel($step));
            })*
        }
    };
}
pub(crate) use on_both;
