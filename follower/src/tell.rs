//! What an operator is told, at standard error.

use std::fmt::Arguments;
use std::io::{self, Write};

/// Writes a line to standard error, formatted as by `eprintln!`. Where nobody can read it (the terminal was closed, the reader
/// of a pipe ended) the line is lost and nothing else happens: `eprintln!` panics then, and a thread that works in the
/// background would be gone for a message.
#[macro_export]
macro_rules! tell {
    ($($arg:tt)*) => {
        $crate::tell_line(format_args!($($arg)*))
    };
}

/// For [`tell!`].
#[doc(hidden)]
pub fn tell_line(line: Arguments<'_>) {
    // In one piece, so that lines of several processes do not mix. What cannot be written is lost.
    drop(io::stderr().write_all(format!("{line}\n").as_bytes()));
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    const CHILD: &str = "PORTCULLIS_TEST_TELL";

    /// In a process of its own, whose standard error nobody reads.
    #[test]
    fn a_line_that_nobody_can_read_is_lost_and_no_more() {
        if std::env::var_os(CHILD).is_some() {
            tell!("{} line", "first");
            tell!("second line");
            return;
        }
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut again = Command::new(std::env::current_exe().expect("own path"));
        again.args([
            "--exact",
            "tell::tests::a_line_that_nobody_can_read_is_lost_and_no_more",
            "--nocapture",
        ]);
        let ended = again.env(CHILD, "1").stdout(Stdio::null()).stderr(writer).status().expect("started");
        assert!(ended.success(), "{ended}");
    }
}
