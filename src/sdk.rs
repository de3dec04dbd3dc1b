//! The worker SDK shipped to users.
