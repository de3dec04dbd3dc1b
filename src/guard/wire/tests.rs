//! Whatever is written is read back the same; what is cut short or made up is refused.

use std::{os::unix::ffi::OsStringExt as _, time::Duration};

use proptest::{collection::vec, option, prelude::*};

use super::*;

fn os() -> impl Strategy<Value = OsString> {
    vec(1..=255_u8, 0..20).prop_map(OsString::from_vec)
}

fn exit() -> impl Strategy<Value = Exit> {
    prop_oneof![
        any::<i32>().prop_map(Exit::Code),
        any::<i32>().prop_map(Exit::Signal),
        Just(Exit::Unknown)
    ]
}

fn trap() -> impl Strategy<Value = Option<Trap>> {
    option::of((any::<u16>(), ".*").prop_map(|(port, key)| Trap { port, key }))
}

fn life() -> impl Strategy<Value = Life> {
    let moment = any::<u64>().prop_map(|nanos| Moment::from_boot(Duration::from_nanos(nanos)));
    let fate = (option::of(exit()), any::<bool>());
    let port = (trap(), vec(".*", 0..3));
    (".*", ".*", any::<i32>(), any::<u64>(), moment, fate, port).prop_map(
        |(label, note, pid, started_ticks, spawned, (exit, gone), (trap, listens))| Life {
            label,
            note,
            pid: Pid(pid),
            started_ticks,
            spawned,
            exit,
            gone,
            trap,
            listens,
        },
    )
}

fn roles() -> impl Strategy<Value = Vec<Role>> {
    let role = proptest::sample::select(vec![
        Role::Out,
        Role::Err,
        Role::Channel,
        Role::Notify,
        Role::Trap,
    ]);
    vec(role, 0..8)
}

fn output() -> impl Strategy<Value = Output> {
    prop_oneof![Just(Output::Nowhere), any::<u32>().prop_map(|bytes| Output::Pipe { bytes })]
}

fn spawn() -> impl Strategy<Value = Spawn> {
    let user = (any::<u32>(), any::<u32>()).prop_map(|(uid, gid)| User { uid, gid });
    let channel = proptest::sample::select(vec![Channel::Json, Channel::Off]);
    (
        (".*", ".*", vec(os(), 0..5), vec((os(), os()), 0..5), os(), option::of(user)),
        vec((".*", option::of(any::<u64>())), 0..4),
        vec(".*", 0..4),
        channel,
        option::of(os()),
        (output(), output(), trap()),
    )
        .prop_map(|(who, limits, listen, channel, notify, (out, err, trap))| {
            let (label, note, argv, env, cwd, user) = who;
            Spawn {
                label,
                note,
                argv,
                env,
                cwd: cwd.into(),
                user,
                limits,
                listen,
                channel,
                notify: notify.map(PathBuf::from),
                out,
                err,
                trap,
            }
        })
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![
        Just(Order::Inventory),
        Just(Order::Exit),
        spawn().prop_map(|spawn| Order::Spawn(Box::new(spawn))),
        (life(), roles()).prop_map(|(life, roles)| Order::Adopt(life, roles)),
        (".*", any::<i32>(), any::<bool>()).prop_map(|(label, signal, tree)| Order::Signal {
            label,
            signal: Signal(signal),
            reach: if tree { Reach::Tree } else { Reach::Leader },
        }),
        (".*", ".*").prop_map(|(label, note)| Order::Note { label, note }),
        ".*".prop_map(|label| Order::Forget { label }),
        ".*".prop_map(|key| Order::Hold { key }),
        ".*".prop_map(|key| Order::Release { key }),
    ]
}

fn notice() -> impl Strategy<Value = Notice> {
    prop_oneof![
        (life(), roles()).prop_map(|(life, roles)| Notice::Worker(life, roles)),
        (".*", ".*").prop_map(|(label, reason)| Notice::SpawnFailed { label, reason }),
        (".*", exit()).prop_map(|(label, exit)| Notice::Exited { label, exit }),
        ".*".prop_map(|label| Notice::Gone { label }),
        ".*".prop_map(|key| Notice::Held { key }),
        (".*", ".*").prop_map(|(label, key)| Notice::Took { label, key }),
        (".*", ".*").prop_map(|(label, reason)| Notice::Untrapped { label, reason }),
        (any::<bool>(), option::of(any::<u64>())).prop_map(|(session, nofile_soft)| {
            let rung = if session { Rung::Session } else { Rung::Cgroup };
            Notice::InventoryEnd { rung, nofile_soft }
        }),
    ]
}

proptest! {
    #[test]
    fn orders_survive(order in order()) {
        prop_assert_eq!(Order::decode(&order.encode()), Ok(order));
    }

    #[test]
    fn notices_survive(notice in notice()) {
        prop_assert_eq!(Notice::decode(&notice.encode()), Ok(notice));
    }

    #[test]
    fn a_cut_frame_is_refused(order in order(), cut in any::<prop::sample::Index>()) {
        let bytes = order.encode();
        let cut = cut.index(bytes.len());
        prop_assert_eq!(Order::decode(&bytes[..cut]), Err(WireError::Truncated));
    }

    #[test]
    fn garbage_never_panics(bytes in vec(any::<u8>(), 0..200)) {
        drop((Order::decode(&bytes), Notice::decode(&bytes)));
    }
}

#[test]
fn refusals() {
    #[track_caller]
    fn check(bytes: &[u8], why: WireError) {
        assert_eq!(Order::decode(bytes), Err(why));
    }
    check(&[], WireError::Truncated);
    check(&[9], WireError::Tag(9));
    check(&[8, 0], WireError::Trailing(1));
    check(&[5, 1, 0, 0, 0, 0xff], WireError::Text);
    // a label of 4 GiB, and a list of as many entries, of which nothing is there
    check(&[5, 0xff, 0xff, 0xff, 0xff], WireError::Truncated);
    let mut list = vec![1, 0, 0, 0, 0, 0, 0, 0, 0];
    list.extend_from_slice(&[0xff; 4]);
    check(&list, WireError::Truncated);
}
