//! One client's bytes cut into requests.

use super::wire::{Malformed, Request};

/// Longest line a client may send: a `start` carries a whole environment, rarely over 1 MiB.
pub const LINE_MAX: usize = 8 << 20;

/// One connection to the control socket, read side.
///
/// Memory is bounded by [`LINE_MAX`]: the rest of a longer line is dropped up to its end.
#[derive(Debug, Default)]
pub struct Session {
    line: Vec<u8>,
    /// The current line is too long; skip to its end.
    skipping: bool,
}

impl Session {
    /// Feeds bytes as they came; yields every whole request in them, in order.
    pub fn receive(&mut self, mut bytes: &[u8], requests: &mut Vec<Result<Request, Malformed>>) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (head, tail) = bytes.split_at(end);
            self.take(head);
            self.finish(requests);
            bytes = tail.get(1..).unwrap_or_default();
        }
        self.take(bytes);
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.skipping || self.line.len() + bytes.len() > LINE_MAX {
            self.skipping = true;
            self.line = Vec::new();
        } else {
            self.line.extend_from_slice(bytes);
        }
    }

    fn finish(&mut self, requests: &mut Vec<Result<Request, Malformed>>) {
        let skipped = std::mem::take(&mut self.skipping);
        let line = std::mem::take(&mut self.line);
        if skipped {
            requests.push(Err(Malformed::too_long()));
        } else if !line.trim_ascii().is_empty() {
            requests.push(Request::parse(&line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(session: &mut Session, bytes: &[u8]) -> Vec<String> {
        let mut requests = Vec::new();
        session.receive(bytes, &mut requests);
        requests
            .into_iter()
            .map(|it| match it {
                Ok(request) => request.id,
                Err(malformed) => malformed.reason,
            })
            .collect()
    }

    #[test]
    fn lines_may_come_in_any_pieces() {
        let mut session = Session::default();
        let text =
            b"{\"id\":\"a\",\"cmd\":\"ping\"}\n\n{\"id\":\"b\",\"cmd\":\"list\",\"args\":{}}\n";
        let mut ids = Vec::new();
        for byte in text {
            ids.extend(feed(&mut session, &[*byte]));
        }
        assert_eq!(ids, ["a", "b"]);
    }

    #[test]
    fn an_endless_line_costs_no_memory_and_one_error() {
        let mut session = Session::default();
        for _ in 0..=LINE_MAX / 65_536 {
            assert!(feed(&mut session, &vec![b'x'; 65_536]).is_empty());
        }
        assert!(session.line.capacity() == 0, "the line is still held");
        let ids = feed(&mut session, b"\n{\"id\":\"next\",\"cmd\":\"ping\"}\n");
        assert_eq!(ids, ["Invalid request: a line may have at most 8388608 bytes", "next"]);
    }
}
