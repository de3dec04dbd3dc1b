//! Clients that ask a server without rest, and note every answer and every way to fail.
//!
//! Each client is a thread that blocks: one question costs five system calls, so that forty of them
//! are busy with waiting. Every answer is compared with what it must be.

mod client;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use self::client::Client;
pub(super) use self::client::{Failed, Keep};
use super::clock;

/// How many ask, and how eagerly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowd {
    /// Clients with a new connection for every question.
    pub(super) fresh: u16,
    /// Clients that keep their connection.
    pub(super) kept: u16,
    /// What each rests between two questions.
    pub(super) pause: Duration,
    /// Questions after which no more are asked, answered or not.
    pub(super) questions_max: u64,
}

/// One answer, as it had to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// When it was complete, since the traffic began.
    pub(super) at: Duration,
    /// How long the client waited.
    pub(super) took: Duration,
    /// Who answered.
    pub(super) pid: u32,
}

/// What came of all questions.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// In the order of their arrival.
    pub(super) answers: Vec<Answer>,
    pub(super) failed: BTreeMap<Failed, u32>,
    /// Questions asked once more because a connection that was used before had been closed. Every
    /// library does that: RFC 9112 § 9.3.1.
    pub(super) retried: u32,
}

impl Outcome {
    pub(super) fn lost(&self) -> u32 {
        self.failed.values().sum()
    }

    /// How many answers each worker gave.
    pub(super) fn by_worker(&self) -> BTreeMap<u32, u32> {
        let mut by = BTreeMap::new();
        for answer in &self.answers {
            *by.entry(answer.pid).or_default() += 1;
        }
        by
    }

    /// The longest time without any answer.
    pub(super) fn longest_gap(&self) -> Duration {
        let pairs = self.answers.iter().zip(self.answers.iter().skip(1));
        pairs.map(|(one, next)| next.at.saturating_sub(one.at)).max().unwrap_or_default()
    }

    fn add(&mut self, other: Self) {
        self.answers.extend(other.answers);
        self.retried += other.retried;
        for (how, count) in other.failed {
            *self.failed.entry(how).or_default() += count;
        }
    }
}

/// The wait that `part` of a hundred answers did not exceed.
pub(super) fn percentile(answers: &[Answer], part: usize) -> Option<Duration> {
    let mut waits: Vec<_> = answers.iter().map(|it| it.took).collect();
    waits.sort_unstable();
    waits.get(waits.len().saturating_sub(1) * part / 100).copied()
}

/// Clients at work; finish it to learn what came of it.
#[derive(Debug)]
pub(super) struct Traffic {
    since: Instant,
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Outcome>>,
}

#[derive(Debug)]
struct Shared {
    over: AtomicBool,
    /// Questions that may still be asked.
    left: AtomicU64,
    answered: AtomicU64,
}

impl Traffic {
    pub(super) fn start(port: u16, crowd: Crowd) -> Self {
        let since = clock::now();
        let shared = Arc::new(Shared {
            over: AtomicBool::new(false),
            left: AtomicU64::new(crowd.questions_max),
            answered: AtomicU64::new(0),
        });
        let keeps = [(Keep::No, crowd.fresh), (Keep::Yes, crowd.kept)];
        let keeps = keeps.into_iter().flat_map(|(keep, count)| (0..count).map(move |_| keep));
        let client = |keep| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || ask(Client::new(port, keep), &shared, since, crowd.pause))
        };
        let clients = keeps.map(client).collect();
        Self { since, shared, clients }
    }

    /// Time since it began: the clock of [`Answer::at`].
    pub(super) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    pub(super) fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Waits until as many questions as were allowed are answered or failed.
    pub(super) fn join(self) -> Outcome {
        let mut all = Outcome::default();
        for client in self.clients {
            all.add(client.join().unwrap_or_default());
        }
        all.answers.sort_unstable_by_key(|it| it.at);
        all
    }

    /// Lets nobody ask any more, and waits for the last answers.
    pub(super) fn finish(self) -> Outcome {
        self.shared.over.store(true, Ordering::Relaxed);
        self.join()
    }
}

fn ask(mut client: Client, shared: &Shared, since: Instant, pause: Duration) -> Outcome {
    let mut outcome = Outcome::default();
    let take = |left: u64| left.checked_sub(1);
    while !shared.over.load(Ordering::Relaxed)
        && shared.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    {
        let asked = since.elapsed();
        let answer = client.ask();
        let at = since.elapsed();
        match answer {
            Ok(pid) => {
                outcome.answers.push(Answer { at, took: at.saturating_sub(asked), pid });
                shared.answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(how) => *outcome.failed.entry(how).or_default() += 1,
        }
        if !pause.is_zero() {
            clock::sleep(pause);
        }
    }
    outcome.retried = client.retried;
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(at: u64, took: u64, pid: u32) -> Answer {
        let [at, took] = [at, took].map(Duration::from_millis);
        Answer { at, took, pid }
    }

    #[test]
    fn what_answers_come_to() {
        let answers = vec![answer(1, 1, 7), answer(5, 3, 8), answer(6, 2, 7)];
        let outcome = Outcome { answers, ..Outcome::default() };
        assert_eq!(outcome.longest_gap(), Duration::from_millis(4));
        assert_eq!(outcome.by_worker(), BTreeMap::from([(7, 2), (8, 1)]));
        assert_eq!(percentile(&outcome.answers, 50), Some(Duration::from_millis(2)));
        assert_eq!(percentile(&outcome.answers, 100), Some(Duration::from_millis(3)));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn nobody_asks_more_than_is_allowed() {
        let port = client::tests::serve(|_| vec![client::tests::good(9)]);
        let crowd = Crowd { fresh: 3, kept: 0, pause: Duration::ZERO, questions_max: 50 };
        let outcome = Traffic::start(port, crowd).join();
        assert_eq!((outcome.answers.len(), outcome.lost()), (50, 0), "{:?}", outcome.failed);
    }
}
