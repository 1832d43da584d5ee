//! `spec`: from the text of an environment repository to the desired state, with every mistake located.
//!
//! It never touches Git, the disk or the machine: it is handed bytes.
