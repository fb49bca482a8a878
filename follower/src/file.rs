//! Files that hold what must outlive the process: replaced as a whole, for their owner only, with a checksum.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};

/// Writes a file beside the old one, to the disk, and renames it; directories above it are made.
pub(crate) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    // One that a crash left may have another mode.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Secrets, or what is believed at the next start.
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // The new name has to survive a loss of power too.
    fs::File::open(dir)?.sync_all()
}

/// One line with the SHA-256 of what follows, and what follows.
pub(crate) fn with_checksum(magic: &str, contents: &[u8]) -> Vec<u8> {
    [format!("{magic}{}\n", hex(contents)).as_bytes(), contents].concat()
}

/// What follows the line, if it is what was written. It keeps out what a crash tore and what a disk forgot, not an
/// attacker, who could write the checksum too.
pub(crate) fn checked<'a>(magic: &str, text: &'a [u8]) -> Result<&'a [u8], &'static str> {
    let end = text.iter().position(|byte| *byte == b'\n');
    let (head, body) = end.map_or((text, &[][..]), |end| (&text[..end], &text[end + 1..]));
    let sum = head.strip_prefix(magic.as_bytes()).ok_or("it does not begin as such a file does")?;
    if sum == hex(body).as_bytes() { Ok(body) } else { Err("its checksum differs from its contents") }
}

fn hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
