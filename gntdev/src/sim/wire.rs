//! What the grant client and the simulated hypervisor say to each other, and how a guest's memory is
//! laid out.
//!
//! One datagram is a list of native-endian 32-bit words. A request starts with one of the numbers
//! below; its answer starts with 0 or an errno, followed by the values named here.

/// The socket's name in a machine's directory.
pub const SOCKET: &str = "hypervisor.sock";

/// Most pages in one mapping.
pub const MAX_PAGES: usize = 8 * 1024;

/// Most words in one datagram: a mapping of all those pages.
pub const MAX_WORDS: usize = 16 * 1024;

/// `[MAP, domid, 1 to write, references...]` → token, frames...; refused: `EINVAL`, status, position.
pub const MAP: u32 = 0x201;
/// `[UNMAP, token]` → nothing.
pub const UNMAP: u32 = 0x202;
/// `[MEMORY, domid]` → frames, grant-table frames; descriptors: memory, control page.
pub const MEMORY: u32 = 0x203;
/// `[BYE]`, no answer: the connection ends in good order; a mapping that is left was forgotten.
pub const BYE: u32 = 0x204;

/// Words of one grant-table entry: flags and domid, then the frame number.
pub const ENTRY_WORDS: usize = 2;
/// Entries in one frame of grant table (`GNTTAB` version 1: 8 bytes each).
pub const ENTRIES_PER_FRAME: u32 = 512;

/// The bits of an entry's flags that say what kind it is.
pub const GTF_TYPE_MASK: u32 = 3;
/// An entry that lets `domid` map and copy the frame.
pub const GTF_PERMIT_ACCESS: u32 = 1;
/// No writing.
pub const GTF_READONLY: u32 = 1 << 2;
/// Set by the hypervisor while the page is mapped.
pub const GTF_READING: u32 = 1 << 3;
/// Set by the hypervisor while the page is mapped for writing.
pub const GTF_WRITING: u32 = 1 << 4;
/// Where the domid starts in an entry's first word.
pub const DOMID_SHIFT: u32 = 16;

/// Word of the control page: 1 while the domain exists.
pub const CONTROL_ALIVE: usize = 0;
/// Word of the control page: the copy that is to fail, counted down from n to 1; 0 for none.
pub const CONTROL_COPY_FAULT: usize = 1;
/// Word of the control page: the status with which it fails, as a signed number.
pub const CONTROL_COPY_STATUS: usize = 2;
/// Word of the control page: copies carried out so far, modulo 2^32.
pub const CONTROL_COPIES: usize = 3;
