//! `cli`: the command line, one file a command; the place that wires everything.
//!
//! It never decides about the machine itself.
