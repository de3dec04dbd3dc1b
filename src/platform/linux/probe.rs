//! Asks one worker over HTTP whether it is well.
