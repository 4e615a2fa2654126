//! What the backend daemons share above the wire: device supervision, workers, fd passing.
