//! GPU layouts from the commit to the library: the real loop and the real provider over a simulated
//! NVML, one machine a test.

mod change;
mod clients;
mod driver;
mod equal;
mod faults;
mod guests;
mod health;
mod history;
mod kernel;
mod lab;
mod names;
mod own;
mod vgpus;
mod wake;
