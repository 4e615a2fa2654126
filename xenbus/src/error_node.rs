//! The error node, where tools and administrators look for what went wrong with a device.

use crate::error::StoreError;
use crate::path::BackendPath;
use crate::store::Store;

/// The most bytes of an error text.
pub const TEXT_MAX: usize = 256;

/// The error node of one device, written at most once until it is cleared.
///
/// Place and form are those of Linux's `xenbus_dev_error`:
/// `/local/domain/B/error/backend/CLASS/F/DEVID/error` holds a positive errno number, a space, and
/// a text. It lies outside the device's directory, so writing it never brings a removed device
/// back.
#[derive(Debug)]
pub struct ErrorNode {
    directory: String,
    written: bool,
}

impl ErrorNode {
    /// The error node of `device`, not written yet.
    #[must_use]
    pub fn new(device: &BackendPath) -> Self {
        Self {
            directory: format!(
                "/local/domain/{}/error/{}",
                device.backend,
                device.relative()
            ),
            written: false,
        }
    }

    /// The node that is written.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/error", self.directory)
    }

    /// Writes `errno` (a positive number such as 22) and `text`, cut at [`TEXT_MAX`] bytes, control
    /// characters replaced; false when there is a text already. The first error explains the later
    /// ones.
    ///
    /// # Errors
    /// Refused or disconnected; it counts as not written.
    pub fn write(&mut self, store: &mut Store, errno: i32, text: &str) -> Result<bool, StoreError> {
        if self.written {
            return Ok(false);
        }
        store.write(&self.path(), line(errno, text))?;
        self.written = true;
        Ok(true)
    }

    /// Removes the node, as far as this value has written it: the device works again, or is gone.
    ///
    /// # Errors
    /// Refused or disconnected.
    pub fn clear(&mut self, store: &mut Store) -> Result<(), StoreError> {
        if self.written {
            store.remove(&self.directory)?;
            self.written = false;
        }
        Ok(())
    }
}

fn line(errno: i32, text: &str) -> String {
    let mut line = format!("{errno} ");
    for letter in text.chars() {
        let letter = if letter.is_control() { '?' } else { letter };
        if line.len() + letter.len_utf8() > TEXT_MAX {
            break;
        }
        line.push(letter);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_bounded_and_printable() {
        assert_eq!(line(22, "bad ring-ref \"a\nb\""), "22 bad ring-ref \"a?b\"");
        assert_eq!(line(5, &"ä".repeat(4096)).len(), TEXT_MAX);
    }
}
