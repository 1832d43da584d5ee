//! The GitHub client of trueup.
