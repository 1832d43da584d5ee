//! Tests over the boards of the table.
