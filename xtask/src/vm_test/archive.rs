//! The `newc` cpio format, as far as an initramfs needs it (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::{self, Write};

const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

/// An archive under construction.
pub(super) struct Archive<W> {
    to: W,
    entries: u32,
}

// === impl Archive ===

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Archive<W> {
        Archive { to, entries: 0 }
    }

    /// A directory; parents come first.
    pub(super) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, DIRECTORY | 0o755, &[])
    }

    /// A file that may be run.
    pub(super) fn file(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.entry(path, FILE | 0o755, bytes)
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, path: &str, to: &str) -> io::Result<()> {
        self.entry(path, LINK | 0o777, to.as_bytes())
    }

    /// Writes the trailer.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn entry(&mut self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let size = u32::try_from(bytes.len()).map_err(|_| io::Error::other(format!("{path}: over 4 GiB")))?;
        let name_len = path.len() as u32 + 1;
        // ino, mode, uid, gid, nlink, mtime, filesize, dev major and minor, rdev major and minor, namesize, check
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_len, 0];
        let mut header = String::from("070701");
        for field in fields {
            header += &format!("{field:08x}");
        }
        self.to.write_all(header.as_bytes())?;
        self.to.write_all(path.as_bytes())?;
        self.to.write_all(&[0])?;
        self.pad(header.len() + path.len() + 1)?;
        self.to.write_all(bytes)?;
        self.pad(bytes.len())
    }

    /// Names and contents are padded to four bytes.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.to.write_all(&[0; 3][..written.wrapping_neg() % 4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_named() {
        let mut archive = Archive::new(Vec::new());
        archive.directory("d").expect("memory");
        archive.file("d/f", b"hello").expect("memory");
        archive.link("d/l", "f").expect("memory");
        let bytes = archive.finish().expect("memory");
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(bytes.windows(6).filter(|w| w == b"070701").count(), 4);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("d/f\0") && text.contains("hello") && text.contains("TRAILER!!!\0"));
        // the size of the file: eighth field of the second header
        let second = text.match_indices("070701").nth(1).map(|(at, _)| at).expect("two headers");
        assert_eq!(&text[second + 6 + 6 * 8..][..8], "00000005");
        // the mode of the link: second field of the third
        let third = text.match_indices("070701").nth(2).map(|(at, _)| at).expect("three headers");
        assert_eq!(&text[third + 6 + 8..][..8], "0000a1ff");
    }
}
