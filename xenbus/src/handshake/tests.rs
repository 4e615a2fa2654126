//! The handshake against a model of store and device layer: walks, all pairs, random sequences.

mod every_pair;
mod walks;
mod world;
