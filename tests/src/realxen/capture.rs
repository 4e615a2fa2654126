//! Files of frames: those that are to be sent, and those that were seen.

use anyhow::{Context, ensure};

/// Frames one behind the other, each behind its length.
///
/// # Errors
/// A frame is longer than 64 KiB.
pub fn pack<'a>(frames: impl IntoIterator<Item = &'a [u8]>) -> anyhow::Result<Vec<u8>> {
    let mut packed = Vec::new();
    for frame in frames {
        packed.extend(u16::try_from(frame.len())?.to_le_bytes());
        packed.extend(frame);
    }
    Ok(packed)
}

/// What [`pack`] has packed.
///
/// # Errors
/// The file is cut off.
pub fn unpack(mut packed: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    while !packed.is_empty() {
        let (len, rest) = packed.split_first_chunk().context("half a length")?;
        let len = u16::from_le_bytes(*len).into();
        ensure!(len <= rest.len(), "a frame of {len} bytes is cut off");
        let (frame, rest) = rest.split_at(len);
        frames.push(frame.to_vec());
        packed = rest;
    }
    Ok(frames)
}

/// The frames that tcpdump has written: of this machine's byte order, each whole.
///
/// # Errors
/// It is no such file, or ends in the middle of a frame.
pub fn of_tcpdump(file: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let (header, mut rest) = file.split_first_chunk::<24>().context("no header")?;
    ensure!(
        header.starts_with(&0xa1b2_c3d4_u32.to_le_bytes()),
        "no capture of this byte order"
    );
    let mut frames = Vec::new();
    while let Some((record, bytes)) = rest.split_first_chunk::<16>() {
        let number = |at: usize| -> anyhow::Result<usize> {
            let bytes = record.get(at..at + 4).context("a record")?;
            Ok(u32::from_le_bytes(bytes.try_into()?).try_into()?)
        };
        let (kept, len) = (number(8)?, number(12)?);
        ensure!(kept == len, "{kept} of {len} bytes were kept: tcpdump -s 0");
        ensure!(kept <= bytes.len(), "a frame is cut off: tcpdump -U");
        let (frame, behind) = bytes.split_at(kept);
        frames.push(frame.to_vec());
        rest = behind;
    }
    ensure!(rest.is_empty(), "a record is cut off");
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_unpacked_and_what_is_cut_off_is_no_file() {
        let frames = [vec![1; 60], vec![], vec![2; 1514]];
        let packed = pack(frames.iter().map(Vec::as_slice)).unwrap();
        assert_eq!(unpack(&packed).unwrap(), frames);
        assert!(unpack(&packed[..packed.len() - 1]).is_err());
        assert!(unpack(&packed[..1]).is_err());
    }

    #[test]
    fn a_capture_has_its_frames_and_half_a_frame_is_an_error() {
        let mut file = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
        file.extend([0; 20]);
        for len in [3_u32, 0, 2] {
            file.extend([0; 8]);
            file.extend(len.to_le_bytes());
            file.extend(len.to_le_bytes());
            file.extend(vec![7; len as usize]);
        }
        assert_eq!(of_tcpdump(&file).unwrap(), [vec![7; 3], vec![], vec![7; 2]]);
        assert!(of_tcpdump(&file[..file.len() - 1]).is_err());
        assert!(of_tcpdump(&file[..10]).is_err());
    }
}
