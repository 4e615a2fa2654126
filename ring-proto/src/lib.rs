//! The Xen split-driver wire: ids, ring arithmetic, blkif messages.
