//! What counts, case by case.
