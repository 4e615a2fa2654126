//! The xenstore client and the handshake on the simulated xenstored.

#[cfg(test)]
mod contract;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod guest;
#[cfg(test)]
mod support;
#[cfg(test)]
mod walk;
