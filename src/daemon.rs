//! The loop that joins the quiet rooms.
