//! What a reload promises: never fewer than before, and bad versions go back.

use std::{sync::Arc, time::Duration};

use bunpilot::{
    domain::{AppId, Pid, Stage},
    supervisor::{Outcome, Request},
};

use super::{
    Run, health,
    process::{Nature, Temper},
    spec,
};

/// A bad version: what it is called, what it is like, and the milliseconds in which that is known.
type Bad = (&'static str, fn(&mut Nature), u64);

const BAD: &[Bad] = &[
    ("never ready", |it| (it.ready, it.calls) = (None, false), 1_100),
    ("crashes at boot", |it| it.crashes = Some(Duration::from_millis(3)), 100),
    ("cannot be spawned", |it| it.stillborn = true, 100),
    ("answers 500", |it| (it.sick, it.reachable) = (true, true), 1_100),
    ("hangs at boot", |it| it.hangs = Some(Duration::from_millis(1)), 1_100),
];

fn started(seed: u64, instances: u16) -> (Run, AppId) {
    let mut run = Run::new(seed, Temper::MILD);
    let mut first = spec(instances, 1);
    first.health = Some(health());
    let app = run.daemon.add(first);
    assert_eq!(run.ask(app, Request::Start(None)), Outcome::Done);
    run.turn();
    (run, app)
}

fn pids(run: &Run, app: AppId) -> Vec<Option<Pid>> {
    run.daemon.supervisor.app(app).unwrap().places().map(|it| it.worker.unwrap().pid).collect()
}

/// Reloads and watches that never fewer serve than before; says how it went and how long it took.
#[track_caller]
fn reload(run: &mut Run, app: AppId, version: Option<u32>) -> (Outcome, Duration) {
    let start = run.world.now();
    let least = run.world.serving();
    let instances = run.daemon.supervisor.app(app).unwrap().spec().instances.get();
    let new = version.map(|version| {
        let mut new = spec(instances, version);
        new.health = Some(health());
        Arc::new(new)
    });
    let ticket = run.daemon.request(&mut run.world, app, Request::Reload(new)).unwrap();
    run.until(|it| {
        let serving = it.world.serving();
        if serving < least {
            it.fail(&format!("dipped to {serving}"));
        }
        it.daemon.outcome(ticket).is_some()
    });
    let took = run.daemon.answered(ticket).unwrap().since(start);
    (run.daemon.outcome(ticket).unwrap().clone(), took)
}

#[test]
fn a_good_version_takes_over() {
    for seed in 0..60 {
        for instances in [1, 4] {
            let (mut run, app) = started(seed, instances);
            let before = pids(&run, app);
            let version = (seed % 2 == 0).then_some(2);
            assert_eq!(reload(&mut run, app, version).0, Outcome::Done, "seed {seed}");
            let after = pids(&run, app);
            assert!(before.iter().all(|it| !after.contains(it)), "seed {seed}: one stayed");
        }
    }
}

#[test]
fn a_bad_version_goes_back_in_time() {
    for seed in 0..20 {
        for (what, bend, limit) in BAD {
            for instances in [1, 4] {
                let (mut run, app) = started(seed, instances);
                let before = pids(&run, app);
                run.world.bend = Some(*bend);
                let version = (seed % 2 == 0).then_some(2);
                let (outcome, took) = reload(&mut run, app, version);
                let told = matches!(&outcome, Outcome::RolledBack(why) if why.contains("worker"));
                assert!(told, "seed {seed}: {what}: {outcome:?}");
                assert!(took < Duration::from_millis(*limit), "seed {seed}: {what}: {took:?}");
                run.world.bend = None;
                run.pass(Duration::from_secs(5));
                run.assert_calm();
                assert_eq!(pids(&run, app), before, "seed {seed}: {what}: an old worker left");
                let serving = run.world.serving();
                assert_eq!(serving, before.len(), "seed {seed}: {what}: dipped afterwards");
            }
        }
    }
}

/// The second batch fails: the first, already replaced, goes back to the old version too.
#[test]
fn a_late_failure_takes_all_back() {
    for seed in 0..40 {
        let (mut run, app) = started(seed, 4);
        let least = run.world.serving();
        let mut new = spec(4, 2);
        new.health = Some(health());
        let request = Request::Reload(Some(Arc::new(new)));
        let ticket = run.daemon.request(&mut run.world, app, request).unwrap();
        let third = |it: &Run| {
            let view = it.daemon.supervisor.app(app).unwrap();
            view.place(2).unwrap().generation > 1
        };
        run.until(third);
        let bend: fn(&mut Nature) = |it| it.crashes = Some(Duration::from_millis(3));
        run.world.bend = Some(bend);
        run.turn();
        run.world.bend = None;
        run.until(|it| it.daemon.outcome(ticket).is_some());
        let outcome = run.daemon.outcome(ticket).unwrap();
        assert!(matches!(outcome, Outcome::RolledBack(_)), "seed {seed}: {outcome:?}");
        run.until(|it| {
            if it.world.serving() < least {
                it.fail("dipped on the way back");
            }
            it.daemon.supervisor.app(app).unwrap().under_way().is_none()
        });
        run.assert_calm();
        for worker in run.daemon.supervisor.app(app).unwrap().workers() {
            assert_eq!(super::version(Some(&worker.spec)), "1", "seed {seed}: {}", worker.id);
            assert_eq!(worker.stage, Stage::Online, "seed {seed}: {}", worker.id);
        }
    }
}
