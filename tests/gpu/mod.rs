//! GPU layouts from the commit to the library: the real loop and the real provider over a simulated
//! NVML, one machine a test.

mod change;
mod clients;
mod faults;
mod guests;
mod history;
mod kernel;
mod lab;
mod own;
mod wake;
