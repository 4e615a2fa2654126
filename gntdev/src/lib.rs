//! Xen grants: mapping and copying through /dev/xen/gntdev, and a simulated one.
