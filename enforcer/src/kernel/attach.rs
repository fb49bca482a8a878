//! Attaching, replacing, watching and detaching the programs of an instance.
//!
//! Order. Attaching: the verdict programs stand before the first socket can come, and nothing is protected before
//! `pc_ports` is filled, which makes guard and `pc_sockops` begin with one write. Detaching: `pc_sockops` first, so that
//! no connection enters a map that is about to lose its program; the guard last, so that what was controlled cannot
//! be reached uncontrolled in between.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, Program, ProgramError, SockOps};

use super::around::{self, HOOKS};
use super::error::KernelError;
use super::map::{Map, Maps};
use super::object::{CHAIN, Loaded};
use super::pins::{self, Pins};
use super::sys::{self, AttachType};

/// The attachments of a running instance, held to be watched. The pins hold them too.
#[derive(Debug)]
pub(crate) struct Attached {
    /// In the order of [`LINKS`], with the programs' ids.
    links: Vec<(OwnedFd, u32)>,
    /// That of [`EGRESS`], while it is there.
    egress: Option<(OwnedFd, u32)>,
    entry_prog: u32,
    inject_prog: u32,
    /// In the order of [`CHAIN`].
    chain: Vec<u32>,
    /// Those of [`HOOKS`]. Nobody can take them off while these are open.
    _hooks: Vec<OwnedFd>,
}

/// Programs of socket maps: map, program, attach type.
const SOCKET_PROGRAMS: [(&str, &str, AttachType); 2] = [
    ("pc_socks", "pc_entry", AttachType::StreamVerdict),
    ("pc_injectors", "pc_inject", AttachType::MsgVerdict),
];

/// Programs of the cgroup: link, program. Attached in this order, and detached in the opposite one.
const LINKS: [(&str, &str); 2] = [("guard", "pc_guard"), ("sockops", "pc_sockops")];

/// The program that looks for the answers to requests for websocket. Every packet that leaves the cgroup pays for it, so
/// it is attached only while a policy lets something switch.
const EGRESS: (&str, &str) = ("egress", "pc_egress");

/// Fills the program array and attaches everything that is new to `cgroup`; pins the links. Hooks that the kernel has not are
/// left out.
pub(crate) fn attach(loaded: &mut Loaded, pins: &Pins, cgroup: &Path) -> Result<(), KernelError> {
    chain(loaded, loaded.map("pc_progs")?)?;
    for (map, program, kind) in SOCKET_PROGRAMS {
        let done = sys::attach(loaded.map(map)?, loaded.program(program)?, kind);
        done.map_err(KernelError::system("attach a verdict program to its socket map"))?;
    }
    around::attach(loaded, pins);
    for (name, program) in LINKS {
        let new = loaded.program_mut(program).ok_or(ProgramError::NotLoaded);
        link(new, program, cgroup, &pins.link(name))?;
    }
    Ok(())
}

/// Puts newly loaded programs in the place of those that run, each with one atomic step, and pins them.
///
/// Live connections keep `pc_entry` of the time they came; it does nothing but call the chain, which changes under
/// them.
pub(crate) fn replace(loaded: &Loaded, pins: &Pins) -> Result<(), KernelError> {
    chain(loaded, loaded.map("pc_progs")?)?;
    for (map, program, kind) in SOCKET_PROGRAMS {
        let done = sys::attach(loaded.map(map)?, loaded.program(program)?, kind);
        done.map_err(KernelError::system("replace a verdict program"))?;
    }
    let egress = pins.link(EGRESS.0).exists().then_some(EGRESS);
    for (link, program) in LINKS.into_iter().chain(egress) {
        let path = pins.link(link);
        let link = sys::open(&path).map_err(|source| KernelError::at("open the pin", &path, source))?;
        let done = sys::link_update(link.as_fd(), loaded.program(program)?);
        done.map_err(|source| KernelError::at("replace the program of", &path, source))?;
    }
    around::attach(loaded, pins);
    loaded.pin_programs(pins.dir())
}

/// Puts right what somebody took off or replaced, and attaches to `cgroup` what is attached to another one: the instance was
/// made for that, or it was removed (systemd does so when a service stops) and stands there anew.
pub(crate) fn repair(pins: &Pins, cgroup: &Path) -> Result<(), KernelError> {
    let about =
        fs::metadata(cgroup).map_err(|source| KernelError::at("look at the cgroup", cgroup, source))?;
    let progs = open_pin(&pins.maps().join("pc_progs"))?;
    for (index, name) in CHAIN.iter().rev() {
        let program = open_pin(&pins.program(name))?;
        call(progs.as_fd(), *index, program.as_fd())?;
    }
    for (map, name, kind) in SOCKET_PROGRAMS {
        let (map, program) = (Map::open(&pins.maps().join(map))?, open_pin(&pins.program(name))?);
        if attached(&map, kind)? != Some(program_id(pins, name)?) {
            let done = sys::attach(map.as_fd(), program.as_fd(), kind);
            done.map_err(KernelError::system("attach a verdict program to its socket map"))?;
        }
    }
    let egress = pins.link(EGRESS.0).exists().then_some(EGRESS);
    for (name, program) in LINKS.into_iter().chain(egress) {
        let pin = pins.link(name);
        let old = open_pin(&pin)?;
        let info = sys::link_info(old.as_fd()).map_err(KernelError::system("inspect a link"))?;
        // Of a directory of cgroup2 the inode's number is the group's id.
        if info.cgroup_id != about.ino() {
            let new = pins.link(&format!("{name}-new"));
            pins::remove_file(&new)?;
            let mut pinned = pinned(pins, program);
            link(pinned.as_mut().map_err(|_| ProgramError::NotLoaded), program, cgroup, &new)?;
            // With its last pin the old one goes.
            fs::rename(&new, &pin).map_err(|source| KernelError::at("move", &new, source))?;
        } else if info.prog_id != program_id(pins, program)? {
            let done = sys::link_update(old.as_fd(), open_pin(&pins.program(program))?.as_fd());
            done.map_err(|source| KernelError::at("replace the program of", &pin, source))?;
        }
    }
    Ok(())
}

/// A program of the cgroup, from its pin.
fn pinned(pins: &Pins, name: &str) -> Result<Program, ProgramError> {
    let path = pins.program(name);
    match name {
        "pc_sockops" => SockOps::from_pin(path).map(Program::SockOps),
        _ if name == EGRESS.1 => {
            CgroupSkb::from_pin(path, CgroupSkbAttachType::Egress).map(Program::CgroupSkb)
        }
        _ => CgroupSkb::from_pin(path, CgroupSkbAttachType::Ingress).map(Program::CgroupSkb),
    }
}

/// Takes everything off but the guard, for whose program nothing is under control any more: it drops all payload to the
/// ports that enforce, until [`release`].
///
/// `false`: the instance has not what that takes, and stays as it is.
pub(crate) fn hold(pins: &Pins) -> Result<bool, KernelError> {
    let Ok(conns) = Map::open(&pins.maps().join("pc_conns")) else { return Ok(false) };
    let (guard, held) = (pins.link("guard"), pins.held());
    if conns.keys::<u64>().is_err() || !(guard.exists() || held.exists()) {
        return Ok(false);
    }
    if guard.exists() {
        pins::remove_file(&held)?;
        fs::rename(&guard, &held).map_err(|source| KernelError::at("move", &guard, source))?;
    }
    // No new ones from here on, and none that is being made.
    detach_sockops(pins)?;
    sys::wait_for_readers().map_err(KernelError::system("wait for the programs"))?;
    for cookie in conns.keys::<u64>().map_err(KernelError::system("list pc_conns"))? {
        conns.remove(&cookie).map_err(KernelError::system("delete from pc_conns"))?;
    }
    detach(pins)?;
    Ok(true)
}

/// Lets go of a guard that was held.
pub(crate) fn release(pins: &Pins) -> Result<(), KernelError> {
    pins::remove_file(&pins.held())
}

/// Takes everything off, in the safe order; what is gone already is no error.
pub(crate) fn detach(pins: &Pins) -> Result<(), KernelError> {
    detach_sockops(pins)?;
    for (map, program, kind) in SOCKET_PROGRAMS {
        let (Ok(map), Ok(program)) = (sys::open(&pins.maps().join(map)), sys::open(&pins.program(program)))
        else {
            continue;
        };
        match sys::detach(map.as_fd(), program.as_fd(), kind) {
            // EINVAL: that of an instance of other state, of another type; it goes with its map.
            Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => {
                return Err(KernelError::system("detach a verdict program")(error));
            }
            _ => {}
        }
    }
    pins::remove_file(&pins.link(EGRESS.0))?;
    pins::remove_file(&pins.link("guard"))?;
    HOOKS.iter().try_for_each(|hook| pins::remove_file(&pins.link(hook.link)))
}

fn detach_sockops(pins: &Pins) -> Result<(), KernelError> {
    let path = pins.link("sockops");
    if let Ok(link) = sys::open(&path) {
        let done = sys::link_detach(link.as_fd());
        done.map_err(|source| KernelError::at("detach", &path, source))?;
    }
    pins::remove_file(&path)
}

fn chain(loaded: &Loaded, progs: BorrowedFd<'_>) -> Result<(), KernelError> {
    // The end of the chain first: pc_http, which starts it, comes last.
    for (index, name) in CHAIN.iter().rev() {
        call(progs, *index, loaded.program(name)?)?;
    }
    Ok(())
}

fn call(progs: BorrowedFd<'_>, index: u32, program: BorrowedFd<'_>) -> Result<(), KernelError> {
    let program = std::os::fd::AsRawFd::as_raw_fd(&program) as u32;
    let done = sys::update(progs, &index.to_ne_bytes(), &program.to_ne_bytes(), false);
    done.map_err(KernelError::system("fill the program array"))
}

/// Attaches a program to the cgroup and pins the link.
fn link(
    program: Result<&mut Program, ProgramError>,
    name: &str,
    cgroup: &Path,
    pin: &Path,
) -> Result<(), KernelError> {
    let directory =
        File::open(cgroup).map_err(|source| KernelError::at("open the cgroup", cgroup, source))?;
    let link = program.and_then(|program| new_link(program, name, &directory));
    let link = link.map_err(|error| KernelError::Load {
        program: name.to_owned(),
        message: format!("attaching to {}: {error}", cgroup.display()),
    })?;
    link.pin(pin).map_err(|error| KernelError::at("pin", pin, std::io::Error::other(error)))?;
    Ok(())
}

fn new_link(program: &mut Program, name: &str, cgroup: &File) -> Result<FdLink, ProgramError> {
    if let Program::SockOps(program) = program {
        let id = program.attach(cgroup, CgroupAttachMode::Single)?;
        return program.take_link(id)?.try_into().map_err(|_| ProgramError::NotAttached);
    }
    let program: &mut CgroupSkb = program.try_into()?;
    let direction = if name == EGRESS.1 { CgroupSkbAttachType::Egress } else { CgroupSkbAttachType::Ingress };
    let id = program.attach(cgroup, direction, CgroupAttachMode::Single)?;
    program.take_link(id)?.try_into().map_err(|_| ProgramError::NotAttached)
}

// === impl Attached ===

impl Attached {
    /// Opens what is pinned.
    pub(crate) fn open(pins: &Pins) -> Result<Attached, KernelError> {
        let egress = pins.link(EGRESS.0).exists().then(|| open(pins, EGRESS)).transpose()?;
        Ok(Attached {
            links: LINKS.into_iter().map(|link| open(pins, link)).collect::<Result<_, _>>()?,
            egress,
            entry_prog: program_id(pins, "pc_entry")?,
            inject_prog: program_id(pins, "pc_inject")?,
            chain: CHAIN.iter().map(|(_, name)| program_id(pins, name)).collect::<Result<_, _>>()?,
            _hooks: HOOKS.iter().filter_map(|hook| sys::open(&pins.link(hook.link)).ok()).collect(),
        })
    }

    /// Whether answers to requests for websocket are looked for: before the first policy that lets something switch, until
    /// there is none any more.
    pub(crate) fn see_answers(
        &mut self,
        pins: &Pins,
        cgroup: &Path,
        wanted: bool,
    ) -> Result<(), KernelError> {
        if !wanted {
            self.egress = None;
            return pins::remove_file(&pins.link(EGRESS.0));
        }
        if self.egress.is_none() {
            let mut program = pinned(pins, EGRESS.1);
            link(
                program.as_mut().map_err(|_| ProgramError::NotLoaded),
                EGRESS.1,
                cgroup,
                &pins.link(EGRESS.0),
            )?;
            self.egress = Some(open(pins, EGRESS)?);
        }
        Ok(())
    }

    /// What is not as it was attached, in words; empty when all is well.
    pub(crate) fn missing(&self, maps: &Maps, cgroup: &Path) -> Result<Vec<String>, KernelError> {
        let mut missing = Vec::new();
        let group = fs::metadata(cgroup).map_or(0, |about| about.ino());
        let egress = self.egress.iter().map(|link| (EGRESS, link));
        for ((_, name), (link, program)) in LINKS.into_iter().zip(&self.links).chain(egress) {
            let info = sys::link_info(link.as_fd()).map_err(KernelError::system("inspect a link"))?;
            if info.cgroup_id == 0 {
                missing.push(format!("{name} was detached from its cgroup"));
            } else if info.cgroup_id != group {
                missing.push(format!("{name} is attached to a cgroup that {} is no more", cgroup.display()));
            } else if info.prog_id != *program {
                missing.push(format!("{name} was replaced by program {}", info.prog_id));
            }
        }
        let programs = [self.entry_prog, self.inject_prog];
        for ((map, name, kind), program) in SOCKET_PROGRAMS.into_iter().zip(programs) {
            match attached(maps.get(map)?, kind)? {
                Some(id) if id == program => {}
                Some(id) => missing.push(format!("{name} was replaced by program {id}")),
                None => missing.push(format!("{name} was detached from {map}")),
            }
        }
        let progs = maps.get("pc_progs")?;
        for ((index, name), program) in CHAIN.iter().zip(&self.chain) {
            match progs.get::<u32, u32>(index).map_err(KernelError::system("read pc_progs"))? {
                Some(id) if id == *program => {}
                Some(id) => missing.push(format!("{name} was replaced by program {id}")),
                None => missing.push(format!("{name} was removed from pc_progs")),
            }
        }
        Ok(missing)
    }
}

/// A pinned link, and which program it should have.
fn open(pins: &Pins, (link, program): (&str, &str)) -> Result<(OwnedFd, u32), KernelError> {
    Ok((open_pin(&pins.link(link))?, program_id(pins, program)?))
}

fn program_id(pins: &Pins, name: &str) -> Result<u32, KernelError> {
    let program = open_pin(&pins.program(name))?;
    sys::program_id(program.as_fd()).map_err(KernelError::system("identify a program"))
}

fn open_pin(path: &Path) -> Result<OwnedFd, KernelError> {
    sys::open(path).map_err(|source| KernelError::at("open the pin", path, source))
}

fn attached(map: &Map, kind: AttachType) -> Result<Option<u32>, KernelError> {
    sys::attached(map.as_fd(), kind).map_err(KernelError::system("query a socket map"))
}
