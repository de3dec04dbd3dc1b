//! Whole histories, written down. `UPDATE_EXPECT=1 cargo test` rewrites them.
