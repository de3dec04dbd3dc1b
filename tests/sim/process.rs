//! A pretend process: what it is like, and what became of it.

use std::{sync::Arc, time::Duration};

use bunpilot::{
    domain::{AppSpec, Lane, Moment, Pid},
    supervisor::{Speech, Word},
    world::Launch,
};

use super::luck::Luck;

/// How often processes misbehave, in percent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Temper {
    pub(crate) spawn_fails: u16,
    pub(crate) never_ready: u16,
    pub(crate) crashes: u16,
    /// A crash comes before this many milliseconds.
    pub(crate) life_ms: u16,
    pub(crate) hangs: u16,
    pub(crate) sick: u16,
    pub(crate) ignores_ask: u16,
    pub(crate) never_drains: u16,
    /// Leaves descendants behind.
    pub(crate) offspring: u16,
    /// A descendant escapes the first SIGKILL.
    pub(crate) slippery: u16,
    /// Facts that only make things faster get lost.
    pub(crate) lost: u16,
    /// How late the daemon learns of something, at most.
    pub(crate) late_ms: u16,
}

impl Temper {
    pub(crate) const MILD: Self = Self {
        spawn_fails: 0,
        never_ready: 0,
        crashes: 0,
        life_ms: 2_000,
        hangs: 0,
        sick: 0,
        ignores_ask: 0,
        never_drains: 0,
        offspring: 0,
        slippery: 0,
        lost: 0,
        late_ms: 2,
    };
    pub(crate) const WILD: Self = Self {
        spawn_fails: 4,
        never_ready: 6,
        crashes: 25,
        life_ms: 2_000,
        hangs: 10,
        sick: 8,
        ignores_ask: 20,
        never_drains: 20,
        offspring: 25,
        slippery: 10,
        lost: 5,
        late_ms: 20,
    };
}

/// What a process will do, drawn when it is asked for.
#[expect(clippy::struct_excessive_bools, reason = "independent traits, each drawn by itself")]
#[derive(Clone, Debug)]
pub(crate) struct Nature {
    pub(crate) stillborn: bool,
    pub(crate) boots: Duration,
    /// When it opens its port or says it is ready, after it was born.
    pub(crate) ready: Option<Duration>,
    /// Says so itself, beside opening the port.
    pub(crate) calls: bool,
    pub(crate) crashes: Option<Duration>,
    pub(crate) hangs: Option<Duration>,
    pub(crate) sick: bool,
    /// Whether probes can tell it from its siblings.
    pub(crate) reachable: bool,
    /// How long it takes to exit when asked.
    pub(crate) obeys: Option<Duration>,
    pub(crate) drains: Option<Duration>,
    pub(crate) offspring: bool,
    pub(crate) speech: Speech,
    pub(crate) acknowledges: bool,
    /// How often it sends heartbeats, and whether it announces that.
    pub(crate) beats: Option<Duration>,
}

/// Within a life, heartbeats stay well below the interval announced.
pub(crate) const WATCHDOG: Duration = Duration::from_millis(1_500);

impl Nature {
    pub(crate) fn draw(luck: &mut Luck, temper: &Temper) -> Self {
        let speech =
            *luck.pick(&[Speech::Silent, Speech::Bare, Speech::Sdk, Speech::SdkHandlesShutdown]);
        Self {
            stillborn: luck.percent(temper.spawn_fails),
            boots: luck.ms(1, 5),
            ready: (!luck.percent(temper.never_ready)).then(|| luck.ms(5, 400)),
            calls: luck.percent(50),
            crashes: luck.percent(temper.crashes).then(|| luck.ms(0, temper.life_ms)),
            hangs: luck.percent(temper.hangs).then(|| luck.ms(0, 3_000)),
            sick: luck.percent(temper.sick),
            reachable: luck.percent(80),
            obeys: (!luck.percent(temper.ignores_ask)).then(|| luck.ms(1, 400)),
            drains: (!luck.percent(temper.never_drains)).then(|| luck.ms(0, 700)),
            offspring: luck.percent(temper.offspring),
            speech,
            acknowledges: luck.percent(30),
            beats: luck.percent(30).then(|| luck.ms(300, 600)),
        }
    }
}

/// Something that happens to a process, whoever watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    Born,
    Stillborn,
    Listens,
    Says(Word),
    Beats,
    Hangs,
    Crashes,
    Obeys,
    Killed,
    Drained,
}

#[expect(clippy::struct_excessive_bools, reason = "independent facts about one process")]
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) spec: Arc<AppSpec>,
    pub(crate) lane: Lane,
    pub(crate) nature: Nature,
    pub(crate) note: String,
    pub(crate) pid: Pid,
    pub(crate) born: Option<Moment>,
    pub(crate) leader: Life,
    /// Whether any process is left of the tree.
    pub(crate) tree: bool,
    /// What the daemon was told of it so far.
    pub(crate) told: Told,
    /// Guard news come in order: none before this moment.
    pub(crate) told_until: Moment,
    pub(crate) listening: bool,
    pub(crate) awaited: bool,
    pub(crate) hung: Option<Moment>,
    /// Whether the daemon heard a heartbeat and knows the interval.
    pub(crate) monitored: bool,
    /// Whether a probe of it ever succeeded.
    pub(crate) proved: bool,
    pub(crate) probed: Option<Moment>,
    /// Whether an earlier daemon judged it ready.
    pub(crate) trusted: bool,
    pub(crate) admitted: bool,
    pub(crate) retired: Option<Moment>,
    /// When it was first asked to exit, by a signal or a message.
    pub(crate) asked: Option<Moment>,
    pub(crate) killed: u32,
    pub(crate) slippery: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Unborn,
    Alive,
    Ended(bunpilot::domain::Exit),
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    pub(crate) born: bool,
    pub(crate) exited: Option<Moment>,
    pub(crate) gone: bool,
}

impl Process {
    pub(crate) fn new(launch: Launch, nature: Nature, pid: Pid, slippery: bool) -> Self {
        Self {
            spec: launch.spec,
            lane: launch.lane,
            note: launch.note,
            nature,
            pid,
            born: None,
            leader: Life::Unborn,
            tree: false,
            told: Told::default(),
            told_until: Moment::START,
            listening: false,
            awaited: false,
            hung: None,
            monitored: false,
            proved: false,
            probed: None,
            trusted: false,
            admitted: false,
            retired: None,
            asked: None,
            killed: 0,
            slippery,
        }
    }

    /// Whether it still does what it is told.
    pub(crate) fn responds(&self) -> bool {
        self.leader == Life::Alive && self.hung.is_none()
    }

    /// Whether the daemon knows that it never came to be.
    pub(crate) fn is_stillborn(&self) -> bool {
        self.born.is_none() && self.told.gone
    }

    /// Whether the daemon has sent it away, or knows that it is on its way.
    pub(crate) fn is_leaving(&self) -> bool {
        self.retired.is_some()
            || self.asked.is_some()
            || self.killed > 0
            || self.told.exited.is_some()
    }
}
