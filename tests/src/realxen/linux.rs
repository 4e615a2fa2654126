//! The kernel proper, out of its self-extracting file.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

/// Where the boot header keeps its fields: Documentation/arch/x86/boot.rst of Linux.
const SETUP_SECTORS: usize = 0x1f1;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// The uncompressed ELF kernel in the bzImage `image`.
///
/// Every guest start would otherwise unpack it again, in seconds of emulated time.
///
/// # Errors
///
/// `image` is no bzImage, or packed by something else than xz.
pub(super) fn unpack(image: &[u8]) -> anyhow::Result<Vec<u8>> {
    let packed = payload(image).context("the kernel's boot header makes no sense")?;
    if !packed.starts_with(b"\xfd7zXZ\0") {
        bail!("the kernel is not packed by xz");
    }
    let mut xz = Command::new("xz")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run xz")?;
    let mut input = xz.stdin.take().context("xz has no input")?;
    let output = std::thread::scope(|scope| {
        let writer = scope.spawn(move || input.write_all(packed));
        let output = xz.wait_with_output().context("cannot read from xz")?;
        match writer.join() {
            Ok(written) => written.context("cannot write to xz")?,
            Err(_) => bail!("the thread that feeds xz panicked"),
        }
        Ok(output)
    })?;
    ensure!(output.status.success(), "xz ended with {}", output.status);
    ensure!(
        output.stdout.starts_with(b"\x7fELF"),
        "the kernel's payload is no ELF file"
    );
    Ok(output.stdout)
}

/// The packed kernel without the four bytes behind it that hold its unpacked size.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let setup = (usize::from(*image.get(SETUP_SECTORS)?) + 1) * 512;
    let start = setup.checked_add(number(PAYLOAD_OFFSET)?)?;
    let length = number(PAYLOAD_LENGTH)?.checked_sub(4)?;
    image.get(start..start.checked_add(length)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_lies_where_the_header_says() {
        let mut image = vec![0_u8; 4096];
        image[SETUP_SECTORS] = 3;
        image[PAYLOAD_OFFSET] = 100;
        image[PAYLOAD_LENGTH] = 10;
        image[4 * 512 + 100..][..10].copy_from_slice(b"0123456789");
        assert_eq!(payload(&image), Some(&b"012345"[..]));
        image[PAYLOAD_LENGTH + 2] = 1;
        assert_eq!(payload(&image), None);
        assert!(unpack(b"short").is_err());
    }
}
