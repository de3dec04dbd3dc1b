//! Lines, rotation and queries.
