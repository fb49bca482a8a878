//! What OpenSSL needs for a signature, on this machine, now.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Seconds for one verification.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verify {
    /// RSA with 2048 bits.
    pub rsa2048_s: f64,
    /// ECDSA with P-256.
    pub p256_s: f64,
}

/// `openssl speed`, one second for each operation.
pub fn speed() -> Result<Verify> {
    let out = Command::new("openssl")
        .args(["speed", "-mr", "-seconds", "1", "rsa2048", "ecdsap256"])
        .output()
        .context("starting openssl; install the package openssl")?;
    if !out.status.success() {
        bail!("openssl speed ended with {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    read(&String::from_utf8_lossy(&out.stdout)).context("openssl speed: output of another form than known")
}

/// `+F2:2:2048:SIGN:VERIFY` and `+F4:3:256:SIGN:VERIFY`: operations a second since OpenSSL 3.0, seconds before.
fn read(text: &str) -> Option<Verify> {
    let field = |prefix: &str, bits: &str| {
        text.lines().find_map(|line| {
            let parts: Vec<&str> = line.strip_prefix(prefix)?.split(':').collect();
            let value = (parts.get(1) == Some(&bits)).then(|| parts.get(3)?.parse::<f64>().ok())??;
            Some(if value > 1.0 { 1.0 / value } else { value })
        })
    };
    Some(Verify { rsa2048_s: field("+F2:", "2048")?, p256_s: field("+F4:", "256")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_readable_form_is_read() {
        let text = "+DTP:2048:private:rsa:1\n+F2:2:2048:0.000540:0.000016\n+F4:3:256:0.000019:0.000059\n";
        assert_eq!(read(text), Some(Verify { rsa2048_s: 0.000_016, p256_s: 0.000_059 }));
        let text = "+F2:2:2048:1000.0:50000.0\n+F4:3:256:20000.0:4000.0\n";
        assert_eq!(read(text), Some(Verify { rsa2048_s: 0.000_02, p256_s: 0.000_25 }));
        assert_eq!(read("nothing"), None);
    }
}
