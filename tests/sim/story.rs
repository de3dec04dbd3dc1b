//! Whole histories, written down. `UPDATE_EXPECT=1 cargo test` rewrites them.

mod heir;

use std::{sync::Arc, time::Duration};

use bunpilot::{
    domain::{AppId, AppSpec, Exit, WorkerId},
    supervisor::{Manner, Outcome, Request, Speech, Status, Word},
    world::Event,
};
use expect_test::{Expect, expect};

use super::{
    Run,
    daemon::Death,
    health,
    process::{Nature, Temper},
    spec,
};

/// A process without whims.
fn plain(nature: &mut Nature) {
    nature.ready = Some(Duration::from_millis(50));
    nature.calls = false;
    nature.speech = Speech::Silent;
    nature.beats = None;
    nature.acknowledges = false;
    nature.reachable = true;
    nature.obeys = Some(Duration::from_millis(20));
    nature.drains = Some(Duration::from_millis(100));
}

fn begin(spec: AppSpec, bend: fn(&mut Nature)) -> (Run, AppId) {
    let mut run = Run::new(7, Temper { late_ms: 0, ..Temper::MILD });
    run.world.bend = Some(bend);
    let app = run.daemon.add(spec);
    (run, app)
}

/// Begins with the app running, its start not told.
fn running(spec: AppSpec, bend: fn(&mut Nature)) -> (Run, AppId) {
    let (mut run, app) = begin(spec, bend);
    assert_eq!(run.ask(app, Request::Start(None)), Outcome::Done);
    run.turn();
    run.world.transcript.clear();
    (run, app)
}

#[track_caller]
fn check(run: &Run, expected: &Expect) {
    expected.assert_eq(&run.world.transcript);
}

#[test]
fn one_worker_reloads_and_stops() {
    let (mut run, app) = running(spec(1, 1), plain);
    run.ask(app, Request::Reload(Some(Arc::new(spec(1, 2)))));
    run.ask(app, Request::Stop(Manner::Gently));
    check(
        &run,
        &expect![[r#"
        1255ms   > Reload 2 app 1
        1255ms     Spawn(1/0#2 lane B)
        1260ms   < Spawned(1/0#2, Pid(7))
        1260ms   < 1/0#2 says Speaks(Silent)
        1260ms     AwaitListen(1/0#2)
        1310ms   < Listening(1/0#2)
        1310ms     Admit(1/0#2)
        1310ms     Retire(1/0#1)
        1410ms   < Drained(1/0#1)
        1410ms     Signal(1/0#1, SIGTERM)
        1430ms   < Exited(1/0#1, Code(0))
        1430ms   < Gone(1/0#1)
        1430ms     finished 2: Done
        1430ms     Forget(1/0#1)
        1530ms   > Stop(Gently) app 1
        1530ms     Retire(1/0#2)
        1630ms   < Drained(1/0#2)
        1630ms     Signal(1/0#2, SIGTERM)
        1650ms   < Exited(1/0#2, Code(0))
        1650ms   < Gone(1/0#2)
        1650ms     finished 3: Done
        1650ms     Forget(1/0#2)
    "#]],
    );
}

#[test]
fn a_version_that_dies_at_boot_goes_back() {
    let (mut run, app) = running(spec(1, 1), plain);
    run.world.bend = Some(|it| {
        plain(it);
        it.crashes = Some(Duration::from_millis(10));
    });
    run.ask(app, Request::Reload(Some(Arc::new(spec(1, 2)))));
    run.pass(Duration::from_secs(1));
    check(
        &run,
        &expect![[r#"
        1255ms   > Reload 2 app 1
        1255ms     Spawn(1/0#2 lane B)
        1260ms   < Spawned(1/0#2, Pid(7))
        1260ms   < 1/0#2 says Speaks(Silent)
        1260ms     AwaitListen(1/0#2)
        1270ms   < Exited(1/0#2, Code(1))
        1270ms   < Gone(1/0#2)
        1270ms     finished 2: RolledBack("worker 0 (pid 7) exited with code 1 before it was ready")
        1270ms     Signal(1/0#2, SIGKILL)
        1270ms     Forget(1/0#2)
    "#]],
    );
}

#[test]
fn a_crash_loop_ends() {
    let mut one = spec(1, 1);
    one.port = None;
    one.restart.max_restarts = 2;
    let (mut run, app) = begin(one, |it| {
        plain(it);
        it.crashes = Some(Duration::from_millis(250));
    });
    assert_eq!(run.ask(app, Request::Start(None)), Outcome::Done);
    run.pass(Duration::from_secs(3));
    let view = run.daemon.supervisor.app(app).unwrap();
    assert_eq!(view.status(), Status::Errored);
    let reason = view.place(0).unwrap().reason.unwrap();
    run.world.note(&reason);
    run.world.bend = Some(plain);
    run.ask(app, Request::Start(None));
    check(
        &run,
        &expect![[r#"
        1000ms   > Start same app 1
        1000ms     Spawn(1/0#1 lane A)
        1005ms   < Spawned(1/0#1, Pid(1))
        1005ms   < 1/0#1 says Speaks(Silent)
        1205ms     finished 1: Done
        1255ms   < Exited(1/0#1, Code(1))
        1255ms   < Gone(1/0#1)
        1255ms     Signal(1/0#1, SIGKILL)
        1255ms     Forget(1/0#1)
        1355ms     Spawn(1/0#2 lane A)
        1360ms   < Spawned(1/0#2, Pid(9))
        1360ms   < 1/0#2 says Speaks(Silent)
        1610ms   < Exited(1/0#2, Code(1))
        1610ms   < Gone(1/0#2)
        1610ms     Signal(1/0#2, SIGKILL)
        1610ms     Forget(1/0#2)
        1810ms     Spawn(1/0#3 lane A)
        1815ms   < Spawned(1/0#3, Pid(17))
        1815ms   < 1/0#3 says Speaks(Silent)
        2065ms   < Exited(1/0#3, Code(1))
        2065ms   < Gone(1/0#3)
        2065ms     Signal(1/0#3, SIGKILL)
        2065ms     Forget(1/0#3)
        4265ms   worker 0 (pid 17) exited with code 1; gave up after 3 crashes
        4265ms   > Start same app 1
        4265ms     Spawn(1/0#4 lane A)
        4267ms   < Spawned(1/0#4, Pid(25))
        4267ms   < 1/0#4 says Speaks(Silent)
        4467ms     finished 2: Done
    "#]],
    );
}

#[test]
fn a_crash_after_min_uptime_is_the_first_in_a_row() {
    let (mut run, app) = running(spec(1, 1), |it| {
        plain(it);
        it.crashes = Some(Duration::from_millis(500));
    });
    run.pass(Duration::from_secs(3));
    let place = run.daemon.supervisor.app(app).unwrap().place(0).unwrap();
    let gaps: Vec<Duration> = place.crashes.windows(2).map(|it| it[1].since(it[0])).collect();
    assert!(gaps.len() > 3 && place.crashes_in_a_row <= 1, "{place:?}");
    let life = Duration::from_millis(500);
    assert!(gaps.iter().all(|it| *it < life + Duration::from_millis(110)), "{gaps:?}");
}

#[test]
fn descendants_die_before_the_successor_comes() {
    let (mut run, _) = running(spec(1, 1), |it| {
        plain(it);
        it.offspring = true;
        it.crashes = Some(Duration::from_millis(100));
    });
    run.pass(Duration::from_millis(250));
    check(
        &run,
        &expect![[r#"
        1106ms     Forget(1/0#1)
        1205ms     Spawn(1/0#2 lane A)
        1208ms   < Spawned(1/0#2, Pid(12))
        1208ms   < 1/0#2 says Speaks(Silent)
        1208ms     AwaitListen(1/0#2)
        1258ms   < Listening(1/0#2)
        1258ms     Admit(1/0#2)
        1308ms   < Exited(1/0#2, Code(1))
        1308ms     Retire(1/0#2)
        1308ms     Signal(1/0#2, SIGKILL)
        1309ms   < Gone(1/0#2)
        1309ms     Forget(1/0#2)
    "#]],
    );
}

#[test]
fn a_worker_that_wants_a_message_gets_it_first() {
    let (mut run, app) = running(spec(1, 1), |it| {
        plain(it);
        it.speech = Speech::SdkHandlesShutdown;
        it.obeys = None;
    });
    run.ask(app, Request::Stop(Manner::Gently));
    check(
        &run,
        &expect![[r#"
        1255ms   > Stop(Gently) app 1
        1255ms     Retire(1/0#1)
        1355ms   < Drained(1/0#1)
        1355ms     Channel(1/0#1, {"type":"shutdown","timeout":500})
        1605ms     Signal(1/0#1, SIGTERM)
        1855ms     Signal(1/0#1, SIGKILL)
        1856ms   < Exited(1/0#1, Signal(9))
        1856ms   < Gone(1/0#1)
        1856ms     finished 2: Done
        1856ms     Forget(1/0#1)
    "#]],
    );
}

#[test]
fn a_worker_that_says_it_stops_is_not_signalled() {
    let (mut run, app) = running(spec(1, 1), |it| {
        plain(it);
        it.speech = Speech::SdkHandlesShutdown;
        it.acknowledges = true;
        it.obeys = Some(Duration::from_millis(400));
    });
    run.ask(app, Request::Stop(Manner::Gently));
    check(
        &run,
        &expect![[r#"
        1255ms   > Stop(Gently) app 1
        1255ms     Retire(1/0#1)
        1355ms   < Drained(1/0#1)
        1355ms     Channel(1/0#1, {"type":"shutdown","timeout":500})
        1356ms   < 1/0#1 says Stopping
        1755ms   < Exited(1/0#1, Code(0))
        1755ms   < Gone(1/0#1)
        1755ms     finished 2: Done
        1755ms     Signal(1/0#1, SIGTERM)
        1755ms     Forget(1/0#1)
    "#]],
    );
}

#[test]
fn force_is_not_gentle() {
    let (mut run, app) = running(spec(1, 1), plain);
    run.daemon.request(&mut run.world, app, Request::Stop(Manner::Gently)).unwrap();
    run.turn();
    run.ask(app, Request::Stop(Manner::Forcibly));
    check(
        &run,
        &expect![[r#"
        1255ms   > Stop(Gently) app 1
        1255ms     Retire(1/0#1)
        1355ms   < Drained(1/0#1)
        1355ms   > Stop(Forcibly) app 1
        1355ms     finished 2: Superseded
        1355ms     Signal(1/0#1, SIGTERM)
        1355ms     Signal(1/0#1, SIGKILL)
        1356ms   < Exited(1/0#1, Signal(9))
        1356ms   < Gone(1/0#1)
        1356ms     finished 3: Done
        1356ms     Forget(1/0#1)
    "#]],
    );
}

#[test]
fn a_hung_worker_leaves_rotation_and_is_replaced() {
    let mut one = spec(1, 1);
    one.health = Some(health());
    let (mut run, _) = running(one, |it| {
        plain(it);
        it.hangs = Some(Duration::from_millis(200));
    });
    run.world.bend = Some(plain);
    run.pass(Duration::from_secs(5));
    check(
        &run,
        &expect![[r#"
        2055ms     Probe(1/0#1)
        2355ms   < Probed(1/0#1, Sick("no answer in time"))
        3055ms     Probe(1/0#1)
        3355ms   < Probed(1/0#1, Sick("no answer in time"))
        3755ms     Probe(1/0#1)
        4055ms   < Probed(1/0#1, Sick("no answer in time"))
        4055ms     Retire(1/0#1)
        4555ms     Signal(1/0#1, SIGTERM)
        5055ms     Signal(1/0#1, SIGKILL)
        5056ms   < Exited(1/0#1, Signal(9))
        5056ms   < Gone(1/0#1)
        5056ms     Forget(1/0#1)
        5056ms     Spawn(1/0#2 lane A)
        5060ms   < Spawned(1/0#2, Pid(17))
        5060ms   < 1/0#2 says Speaks(Silent)
        5060ms     AwaitListen(1/0#2)
        5110ms   < Listening(1/0#2)
        5110ms     Probe(1/0#2)
        5112ms   < Probed(1/0#2, Healthy)
        5112ms     Admit(1/0#2)
        6110ms     Probe(1/0#2)
        6112ms   < Probed(1/0#2, Healthy)
    "#]],
    );
}

#[test]
fn a_silent_heart_is_noticed() {
    let (mut run, app) = running(spec(1, 1), plain);
    let worker = WorkerId::new(app, 0, 1);
    let now = run.world.now();
    run.daemon.supervisor.heard(now, worker, Word::Watchdog(Duration::from_secs(2)));
    run.pass(Duration::from_secs(10));
    run.world.note("nothing happened before the first beat");
    run.daemon.supervisor.heard(run.world.now(), worker, Word::Alive);
    run.pass(Duration::from_secs(3));
    check(
        &run,
        &expect![[r#"
        11255ms  nothing happened before the first beat
        13255ms    Retire(1/0#1)
        13355ms  < Drained(1/0#1)
        13355ms    Signal(1/0#1, SIGTERM)
        13375ms  < Exited(1/0#1, Code(0))
        13375ms  < Gone(1/0#1)
        13375ms    Forget(1/0#1)
        13375ms    Spawn(1/0#2 lane A)
        13378ms  < Spawned(1/0#2, Pid(12))
        13378ms  < 1/0#2 says Speaks(Silent)
        13378ms    AwaitListen(1/0#2)
        13428ms  < Listening(1/0#2)
        13428ms    Admit(1/0#2)
    "#]],
    );
}

#[test]
fn progress_is_told_to_who_asked() {
    let (mut run, app) = running(spec(1, 1), plain);
    run.daemon.progress.clear();
    run.ask(app, Request::Reload(None));
    let expected = expect![[r#"
        2 1/0#2 Entered(Spawning)
        2 1/0#2 Entered(Starting)
        2 1/0#2 Entered(Online)
        2 1/0#1 Entered(Draining)
        2 1/0#1 Entered(Stopping)
        2 1/0#1 Ended(Reload)
    "#]];
    expected.assert_eq(&run.daemon.progress);
}

#[test]
fn scaling_down_drains_the_highest() {
    let (mut run, app) = running(spec(3, 1), plain);
    run.ask(app, Request::Scale(1.try_into().unwrap()));
    check(
        &run,
        &expect![[r#"
        1255ms   > Scale(1) app 1
        1255ms     Retire(1/1#1)
        1255ms     Retire(1/2#1)
        1355ms   < Drained(1/1#1)
        1355ms   < Drained(1/2#1)
        1355ms     Signal(1/1#1, SIGTERM)
        1355ms     Signal(1/2#1, SIGTERM)
        1375ms   < Exited(1/1#1, Code(0))
        1375ms   < Gone(1/1#1)
        1375ms   < Exited(1/2#1, Code(0))
        1375ms   < Gone(1/2#1)
        1375ms     finished 2: Done
        1375ms     Forget(1/1#1)
        1375ms     Forget(1/2#1)
    "#]],
    );
}

#[test]
fn sockets_that_cannot_be_opened_fail_the_start() {
    let (mut run, app) = begin(spec(1, 1), plain);
    let ticket = run.daemon.request(&mut run.world, app, Request::Start(None)).unwrap();
    let event = Event::ListenFailed(app, "port 3000 is taken".to_owned());
    run.daemon.supervisor.observe(run.world.now(), &event);
    run.until(|it| it.daemon.outcome(ticket).is_some());
    run.pass(Duration::from_secs(2));
    assert_eq!(run.daemon.supervisor.app(app).unwrap().status(), Status::Errored);
    check(
        &run,
        &expect![[r#"
        1000ms   > Start same app 1
        1000ms     finished 1: Failed("port 3000 is taken")
        1000ms     Spawn(1/0#1 lane A)
        1005ms   < Spawned(1/0#1, Pid(1))
        1005ms   < 1/0#1 says Speaks(Silent)
        1005ms     Signal(1/0#1, SIGTERM)
        1025ms   < Exited(1/0#1, Code(0))
        1025ms   < Gone(1/0#1)
        1025ms     Forget(1/0#1)
    "#]],
    );
}

#[test]
fn a_stop_overtakes_a_reload_and_its_spec_is_forgotten() {
    let (mut run, app) = running(spec(1, 1), plain);
    let new = Arc::new(spec(1, 2));
    run.daemon.request(&mut run.world, app, Request::Reload(Some(new))).unwrap();
    run.turn();
    run.ask(app, Request::Stop(Manner::Gently));
    let view = run.daemon.supervisor.app(app).unwrap();
    assert_eq!(super::version(Some(view.spec())), "1");
    check(
        &run,
        &expect![[r#"
        1255ms   > Reload 2 app 1
        1255ms     Spawn(1/0#2 lane B)
        1260ms   < Spawned(1/0#2, Pid(7))
        1260ms   < 1/0#2 says Speaks(Silent)
        1260ms   > Stop(Gently) app 1
        1260ms     finished 2: Superseded
        1260ms     AwaitListen(1/0#2)
        1260ms     Retire(1/0#1)
        1260ms     Signal(1/0#2, SIGTERM)
        1280ms   < Exited(1/0#2, Code(0))
        1280ms   < Gone(1/0#2)
        1280ms     Forget(1/0#2)
        1360ms   < Drained(1/0#1)
        1360ms     Signal(1/0#1, SIGTERM)
        1380ms   < Exited(1/0#1, Code(0))
        1380ms   < Gone(1/0#1)
        1380ms     finished 3: Done
        1380ms     Forget(1/0#1)
    "#]],
    );
}
