//! Samples, rates and exposition.
