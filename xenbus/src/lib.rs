//! xenstore client and the split-driver handshake.
