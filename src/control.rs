//! CLI ⇄ daemon: requests and replies as lines of JSON.
