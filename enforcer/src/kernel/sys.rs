//! The commands of `bpf(2)` that the loader library does not offer: legacy attachment to socket maps, links to LSM hooks
//! that can be pinned, queries, link updates, batches, and map access by bytes.
//!
//! Sockets maps are attached to with `BPF_PROG_ATTACH` on every kernel: links to them are newer (6.10) than the oldest
//! kernel that we run on, and an attachment lives as long as its map, which is pinned.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_DELETE_ELEM: libc::c_long = 3;
const MAP_GET_NEXT_KEY: libc::c_long = 4;
const OBJ_PIN: libc::c_long = 6;
const OBJ_GET: libc::c_long = 7;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const MAP_UPDATE_BATCH: libc::c_long = 26;
const LINK_UPDATE: libc::c_long = 29;
const LINK_DETACH: libc::c_long = 34;

/// Where a program is attached: `enum bpf_attach_type`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub(crate) enum AttachType {
    /// `BPF_SK_SKB_STREAM_VERDICT`
    StreamVerdict = 5,
    /// `BPF_SK_MSG_VERDICT`: what is sent.
    MsgVerdict = 7,
}

/// What the kernel says of a map.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub(crate) struct MapInfo {
    /// `enum bpf_map_type`
    pub kind: u32,
    pub id: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
}

/// What the kernel says of a link to a cgroup.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub(crate) struct LinkInfo {
    pub kind: u32,
    pub id: u32,
    pub prog_id: u32,
    pad: u32,
    /// 0 once the link was detached or its cgroup was removed.
    pub cgroup_id: u64,
    pub attach_type: u32,
    pad2: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapElem {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct MapBatch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct Obj {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct Info {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

#[repr(C)]
#[derive(Default)]
struct Update {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// Copies the value of `key` to `value`; `false` when there is none.
pub(crate) fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    let attr = elem(map, key, value.as_mut_ptr() as u64, 0);
    // SAFETY: the caller passes buffers of the map's key and value size (`Map` checks both).
    absent_is_false(unsafe { bpf(MAP_LOOKUP_ELEM, &attr) })
}

/// Sets the value of `key`; `in_place`: where it stands, of a map whose values have a lock.
pub(crate) fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8], in_place: bool) -> io::Result<()> {
    const BPF_F_LOCK: u64 = 4;
    let attr = elem(map, key, value.as_ptr() as u64, if in_place { BPF_F_LOCK } else { 0 });
    // SAFETY: as in `lookup`; the kernel only reads.
    unsafe { bpf(MAP_UPDATE_ELEM, &attr) }.map(drop)
}

/// Deletes `key`; `false` when there was none.
pub(crate) fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<bool> {
    let attr = elem(map, key, 0, 0);
    // SAFETY: as in `lookup`; the kernel only reads the key.
    absent_is_false(unsafe { bpf(MAP_DELETE_ELEM, &attr) })
}

/// The key after `key`, or the first one, into `next`; `false` at the end.
pub(crate) fn next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
    let attr = MapElem {
        map_fd: number(map),
        key: key.map_or(0, |key| key.as_ptr() as u64),
        value: next.as_mut_ptr() as u64,
        ..MapElem::default()
    };
    // SAFETY: as in `lookup`; `next` has the key's size.
    absent_is_false(unsafe { bpf(MAP_GET_NEXT_KEY, &attr) })
}

/// Sets `count` entries; how many were set before an error.
pub(crate) fn update_batch(
    map: BorrowedFd<'_>,
    keys: &[u8],
    values: &[u8],
    count: u32,
) -> Result<(), (u32, io::Error)> {
    let mut attr = MapBatch {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count,
        map_fd: number(map),
        ..MapBatch::default()
    };
    // SAFETY: `Map` passes `count` keys and values of the map's sizes; the kernel reads them and writes `count`.
    unsafe { bpf_mut(MAP_UPDATE_BATCH, &mut attr) }.map(drop).map_err(|error| (attr.count, error))
}

/// Attaches a program of the BPF LSM to its hook. Links of this kind can neither be updated nor detached: the hook is free when
/// the last descriptor and the last pin are gone.
pub(crate) fn hook(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // No name: the hook is the one that the program was loaded for.
    let attr = [0, u64::from(number(program))];
    // SAFETY: integers only.
    let fd = unsafe { bpf(RAW_TRACEPOINT_OPEN, &attr) }?;
    // SAFETY: the kernel made this descriptor for us; it fits an int.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Detaches a link, at once: the removal of its last pin does so some time later.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let attr = [number(link)];
    // SAFETY: the attribute is the prefix of union bpf_attr that the command reads.
    unsafe { bpf(LINK_DETACH, &attr) }.map(drop)
}

/// Returns when no run of a (non-sleepable) program that began before the call is still under way.
///
/// The kernel waits for a grace period after every change of a map of maps (`maybe_wait_bpf_programs` in
/// kernel/bpf/syscall.c), so that the old inner map is seen by nobody when the call returns; maps made for the purpose
/// serve as well. `membarrier(2)` does not: it is free to return at once on one CPU.
pub(crate) fn wait_for_readers() -> io::Result<()> {
    const ARRAY: u32 = 2;
    const ARRAY_OF_MAPS: u32 = 12;
    let shape = || MapCreate { key_size: 4, value_size: 4, max_entries: 1, ..MapCreate::default() };
    let inner = create(&MapCreate { kind: ARRAY, ..shape() })?;
    let outer = create(&MapCreate { kind: ARRAY_OF_MAPS, inner_map_fd: number(inner.as_fd()), ..shape() })?;
    update(outer.as_fd(), &0u32.to_ne_bytes(), &number(inner.as_fd()).to_ne_bytes(), false)
}

fn create(attr: &MapCreate) -> io::Result<OwnedFd> {
    // SAFETY: integers only.
    let fd = unsafe { bpf(MAP_CREATE, attr) }?;
    // SAFETY: the kernel made this descriptor for us; it fits an int.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Fills `bytes` with random ones.
pub(crate) fn random(bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: the buffer is as long as said; without flags the call waits for the kernel's generator to be ready.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(n) == Ok(bytes.len()) { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Pins an object.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let name = c_path(path)?;
    let attr = Obj { pathname: name.as_ptr() as u64, bpf_fd: number(object), ..Obj::default() };
    // SAFETY: `name` is a C string that outlives the call.
    unsafe { bpf(OBJ_PIN, &attr) }.map(drop)
}

/// Opens a pinned object.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    let name = c_path(path)?;
    let attr = Obj { pathname: name.as_ptr() as u64, ..Obj::default() };
    // SAFETY: `name` is a C string that outlives the call.
    let fd = unsafe { bpf(OBJ_GET, &attr) }?;
    // SAFETY: the kernel made this descriptor for us; it fits an int.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Attaches a program to a socket map, in place of the one that is there.
pub(crate) fn attach(map: BorrowedFd<'_>, program: BorrowedFd<'_>, kind: AttachType) -> io::Result<()> {
    let attr = Attach {
        target_fd: number(map),
        attach_bpf_fd: number(program),
        attach_type: kind as u32,
        ..Attach::default()
    };
    // SAFETY: integers only.
    unsafe { bpf(PROG_ATTACH, &attr) }.map(drop)
}

/// Detaches a program from a socket map.
pub(crate) fn detach(map: BorrowedFd<'_>, program: BorrowedFd<'_>, kind: AttachType) -> io::Result<()> {
    let attr = Attach {
        target_fd: number(map),
        attach_bpf_fd: number(program),
        attach_type: kind as u32,
        ..Attach::default()
    };
    // SAFETY: integers only.
    unsafe { bpf(PROG_DETACH, &attr) }.map(drop)
}

/// Identifier of the program attached to a socket map.
pub(crate) fn attached(map: BorrowedFd<'_>, kind: AttachType) -> io::Result<Option<u32>> {
    let mut id = 0u32;
    let mut attr = Query {
        target_fd: number(map),
        attach_type: kind as u32,
        prog_ids: std::ptr::from_mut(&mut id) as u64,
        prog_cnt: 1,
        ..Query::default()
    };
    // SAFETY: room for one identifier is given and said to be so; the kernel writes it and `prog_cnt`.
    unsafe { bpf_mut(PROG_QUERY, &mut attr) }?;
    Ok((attr.prog_cnt > 0 && id != 0).then_some(id))
}

/// Puts another program behind a link, atomically.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attr = Update { link_fd: number(link), new_prog_fd: number(program), ..Update::default() };
    // SAFETY: integers only.
    unsafe { bpf(LINK_UPDATE, &attr) }.map(drop)
}

/// What the kernel says of a map.
pub(crate) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut info = MapInfo::default();
    object_info(map, &mut info)?;
    Ok(info)
}

/// What the kernel says of a link to a cgroup.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    object_info(link, &mut info)?;
    Ok(info)
}

/// Identifier of a program.
pub(crate) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    // struct bpf_prog_info begins with type and id.
    let mut info = [0u32; 2];
    object_info(program, &mut info)?;
    Ok(info[1])
}

fn object_info<T>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attr = Info {
        bpf_fd: number(object),
        info_len: size_of::<T>() as u32,
        info: std::ptr::from_mut(info) as u64,
    };
    // SAFETY: `T` is a plain-data prefix of the object's info structure and its size is passed; the kernel writes no
    // more than that.
    unsafe { bpf_mut(OBJ_GET_INFO_BY_FD, &mut attr) }.map(drop)
}

fn elem(map: BorrowedFd<'_>, key: &[u8], value: u64, flags: u64) -> MapElem {
    MapElem { map_fd: number(map), key: key.as_ptr() as u64, value, flags, ..MapElem::default() }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

fn absent_is_false(result: io::Result<libc::c_long>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// # Safety
/// `attr` is the part of `union bpf_attr` that `command` reads, and its pointers hold what the command asks for.
unsafe fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<libc::c_long> {
    // SAFETY: by the contract of this function; the kernel takes what is behind the size as zero.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) })
}

/// # Safety
/// As `bpf`, for commands that write to `attr`.
unsafe fn bpf_mut<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: by the contract of this function.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) })
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
