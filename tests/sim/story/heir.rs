//! Stories of a daemon that dies, and of the one that takes over.

use super::*;

#[test]
fn a_reload_goes_on_under_the_next_daemon() {
    let one_by_one = |version| {
        let mut two = spec(2, version);
        two.cluster.batch_size = 1.try_into().unwrap();
        two
    };
    let (mut run, app) = running(one_by_one(1), plain);
    let new = Arc::new(one_by_one(2));
    run.daemon.request(&mut run.world, app, Request::Reload(Some(new))).unwrap();
    run.until(|it| it.world.transcript.contains("Retire(1/0#1)"));
    run.die(Death::Between);
    run.pass(Duration::from_secs(2));
    check(
        &run,
        &expect![[r#"
        1255ms   > Reload 2 app 1
        1255ms     Spawn(1/0#2 lane B)
        1256ms   < Spawned(1/0#2, Pid(13))
        1256ms   < 1/0#2 says Speaks(Silent)
        1256ms     AwaitListen(1/0#2)
        1306ms   < Listening(1/0#2)
        1306ms     Admit(1/0#2)
        1306ms     Retire(1/0#1)
        1406ms   < Drained(1/0#1)
        1406ms   > kill -9 Between
        1406ms     Signal(1/0#1, SIGTERM)
        1452ms   < Exited(1/0#1, Code(0))
        1452ms   < Gone(1/0#1)
        1452ms     Adopt(1/0#1 lane A)
        1452ms     Adopt(1/0#2 lane B)
        1452ms     Admit(1/0#2)
        1452ms     Adopt(1/1#1 lane A)
        1452ms     Admit(1/1#1)
        1452ms     Forget(1/0#1)
        1552ms     Spawn(1/1#2 lane B)
        1555ms   < Spawned(1/1#2, Pid(24))
        1555ms   < 1/1#2 says Speaks(Silent)
        1555ms     AwaitListen(1/1#2)
        1605ms   < Listening(1/1#2)
        1605ms     Admit(1/1#2)
        1605ms     Retire(1/1#1)
        1705ms   < Drained(1/1#1)
        1705ms     Signal(1/1#1, SIGTERM)
        1725ms   < Exited(1/1#1, Code(0))
        1725ms   < Gone(1/1#1)
        1725ms     Forget(1/1#1)
    "#]],
    );
}

#[test]
fn a_new_worker_not_ready_when_the_daemon_dies_is_sent_away() {
    let (mut run, app) = running(spec(1, 1), plain);
    let new = Arc::new(spec(1, 2));
    run.daemon.request(&mut run.world, app, Request::Reload(Some(new))).unwrap();
    run.turn();
    run.die(Death::Between);
    run.pass(Duration::from_secs(2));
    let view = run.daemon.supervisor.app(app).unwrap();
    assert_eq!(crate::version(Some(view.spec())), "1");
    check(
        &run,
        &expect![[r#"
        1255ms   > Reload 2 app 1
        1255ms     Spawn(1/0#2 lane B)
        1260ms   < Spawned(1/0#2, Pid(7))
        1260ms   < 1/0#2 says Speaks(Silent)
        1260ms   > kill -9 Between
        1260ms     AwaitListen(1/0#2)
        1354ms   < Listening(1/0#2)
        1354ms     Adopt(1/0#1 lane A)
        1354ms     Admit(1/0#1)
        1354ms     Adopt(1/0#2 lane B)
        1354ms     AwaitListen(1/0#2)
        1354ms     Signal(1/0#2, SIGTERM)
        1354ms   < Listening(1/0#2)
        1374ms   < Exited(1/0#2, Code(0))
        1374ms   < Gone(1/0#2)
        1374ms     Forget(1/0#2)
    "#]],
    );
}

#[test]
fn a_crash_no_daemon_saw_is_a_crash() {
    let (mut run, app) = running(spec(1, 1), plain);
    let worker = WorkerId::new(app, 0, 1);
    run.world.end(worker, Exit::Signal(11));
    run.die(Death::Between);
    run.pass(Duration::from_secs(1));
    let place = run.daemon.supervisor.app(app).unwrap().place(0).unwrap();
    assert_eq!((place.restarts, place.last_exit), (1, Some(Exit::Signal(11))));
    check(
        &run,
        &expect![[r#"
        1255ms   > kill -9 Between
        1298ms     Adopt(1/0#1 lane A)
        1298ms     Forget(1/0#1)
        1398ms     Spawn(1/0#2 lane A)
        1401ms   < Spawned(1/0#2, Pid(9))
        1401ms   < 1/0#2 says Speaks(Silent)
        1401ms     AwaitListen(1/0#2)
        1451ms   < Listening(1/0#2)
        1451ms     Admit(1/0#2)
    "#]],
    );
}
