//! The object file becomes loaded programs and maps.
//!
//! **Invariant:** nothing is attached here; what is loaded and not pinned is gone when [`Loaded`] is dropped.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use aya::maps::{Map, MapData};
use aya::programs::{Program, ProgramError};
use aya::{Btf, Ebpf, EbpfLoader, VerifierLogLevel};
use portcullis_bpf::abi::alg;
use portcullis_bpf::limits;

use super::around;
use super::error::KernelError;
use super::{Limits, sys};

/// Programs in the kernel.
pub(crate) struct Loaded {
    object: Ebpf,
    /// Why programs are missing without which the others do: [`around::HOOKS`].
    without: Vec<KernelError>,
}

/// Slots of `pc_progs`, `enum` in progs/maps.h, with their programs. That of an algorithm stands at 1 + its number.
pub(crate) const CHAIN: &[(u32, &str)] = &[
    (0, "pc_http"),
    (1, "pc_token"),
    (1 + alg::RS256_2048, "pc_rs256"),
    (1 + alg::RS256_3072, "pc_rs256_3072"),
    (1 + alg::RS256_4096, "pc_rs256_4096"),
    (1 + alg::ES256, "pc_es256"),
];

/// Of a load that signals interrupt.
const ATTEMPTS: usize = 5;
/// Lines of a verifier log that an error shows.
const LOG_LINES: usize = 20;

// === impl Loaded ===

impl Loaded {
    /// Loads all programs. With `pins`, they use the maps that are pinned there; else they get new ones. Those of
    /// [`around::HOOKS`] are left out where the kernel does not take them.
    pub(crate) fn load(limits: &Limits, pins: Option<&Path>) -> Result<Loaded, KernelError> {
        let cpus = aya::util::nr_cpus()
            .map_err(|(path, source)| KernelError::at("read", Path::new(path), source))?;
        let slots = (cpus * limits::SLOTS_PER_CPU) as u32;
        let btf = Btf::from_sys_fs().map_err(|error| failed("object", &error))?;
        let mut loader = EbpfLoader::new();
        loader
            .btf(Some(&btf))
            .verifier_log_level(VerifierLogLevel::STATS)
            .map_max_entries("pc_slots", slots)
            .map_max_entries("pc_conns", limits.connections)
            .map_max_entries("pc_socks", limits.connections)
            .map_max_entries("pc_heads", limits.split_heads)
            .map_max_entries("pc_token_cache", limits.tokens)
            .map_max_entries("pc_tunnels", limits.tunnels);
        let names = match pins {
            Some(dir) => super::pins::names(dir)?,
            None => Vec::new(),
        };
        for (name, path) in &names {
            loader.map_pin_path(name, path.as_path());
        }
        let mut object = loader.load(portcullis_bpf::OBJECT).map_err(|error| failed("object", &error))?;
        let mut without = Vec::new();
        for (name, program) in object.programs_mut() {
            let optional = matches!(program, Program::Lsm(_));
            match load(name, program, &btf).map_err(|error| failed(name, &error)) {
                Err(error) if optional => without.push(error),
                done => done?,
            }
        }
        Ok(Loaded { object, without })
    }

    /// Why some of [`around::HOOKS`] are not here.
    pub(crate) fn without(&self) -> &[KernelError] {
        &self.without
    }

    /// Pins maps and programs below `dir`.
    pub(crate) fn pin(&self, dir: &Path) -> Result<(), KernelError> {
        let pin = |object: BorrowedFd<'_>, path: &Path| {
            sys::pin(object, path).map_err(|source| KernelError::at("pin", path, source))
        };
        for (name, map) in self.object.maps().filter(|(name, _)| name.starts_with("pc_")) {
            pin(data(map).fd().as_fd(), &dir.join("maps").join(name))?;
        }
        self.pin_programs(dir)
    }

    /// Pins the programs below `dir`, in place of those that are there.
    pub(crate) fn pin_programs(&self, dir: &Path) -> Result<(), KernelError> {
        for (name, program) in self.object.programs() {
            let path = dir.join("progs").join(name);
            super::pins::remove_file(&path)?;
            let Ok(fd) = program.fd() else { continue };
            sys::pin(fd.as_fd(), &path).map_err(|source| KernelError::at("pin", &path, source))?;
        }
        Ok(())
    }

    /// A program.
    pub(crate) fn program(&self, name: &str) -> Result<BorrowedFd<'_>, KernelError> {
        let missing =
            || KernelError::Load { program: name.to_owned(), message: "not in the object".to_owned() };
        let program = self.object.program(name).ok_or_else(missing)?;
        program.fd().map(AsFd::as_fd).map_err(|error| failed(name, &error))
    }

    /// A map that the programs use.
    pub(crate) fn map(&self, name: &str) -> Result<BorrowedFd<'_>, KernelError> {
        let map = self.object.map(name).ok_or_else(|| KernelError::NoMap { name: name.to_owned() })?;
        Ok(data(map).fd().as_fd())
    }

    /// A program of the object, to attach it.
    pub(crate) fn program_mut(&mut self, name: &str) -> Option<&mut Program> {
        self.object.program_mut(name)
    }
}

/// The verifier gives up with EAGAIN when a signal comes; that is no reason to.
fn load(name: &str, program: &mut Program, btf: &Btf) -> Result<(), ProgramError> {
    for _ in 1..ATTEMPTS {
        match load_one(name, program, btf) {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == std::io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
    load_one(name, program, btf)
}

fn load_one(name: &str, program: &mut Program, btf: &Btf) -> Result<(), ProgramError> {
    match program {
        Program::Lsm(program) => program.load(around::hook_of(name).unwrap_or(name), btf),
        Program::CgroupSkb(program) => program.load(),
        Program::SkSkb(program) => program.load(),
        Program::SkMsg(program) => program.load(),
        Program::SockOps(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// The object has only these kinds of maps.
fn data(map: &Map) -> &MapData {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data)
        | Map::SockHash(data)
        | Map::Unsupported(data) => data,
        other => unreachable!("limits.h and progs/maps.h define no {other:?}"),
    }
}

/// An error of the loader with its causes; of a verifier log only the end, where the reason stands.
fn failed(program: &str, error: &dyn std::error::Error) -> KernelError {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message += &format!(": {error}");
        cause = error.source();
    }
    let lines: Vec<&str> = message.lines().collect();
    if lines.len() > LOG_LINES {
        message = format!("{}\n…\n{}", lines[0], lines[lines.len() - LOG_LINES..].join("\n"));
    }
    KernelError::Load { program: program.to_owned(), message }
}
