//! Parent of the daemon and of every worker.
