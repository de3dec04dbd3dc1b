//! A real guard, real processes, and a daemon that dies.
//!
//! This binary plays every part: called with the name of a role it is a guard or a daemon, else
//! it runs the tests, which are daemons themselves. Everything it starts is ended by pid.

#![expect(clippy::print_stdout, clippy::exit, reason = "a test runner speaks and exits")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::unchecked_time_subtraction,
    reason = "these are tests, though without libtest clippy cannot know"
)]

mod daemons;
mod exits;
mod house;
mod ports;
mod recovery;
mod roles;
mod spawning;
mod trees;

use std::{panic::catch_unwind, process::ExitCode};

type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("output_and_status", spawning::output_and_status),
    ("output_that_goes_nowhere", spawning::output_that_goes_nowhere),
    ("the_contract_with_a_worker", spawning::the_contract_with_a_worker),
    ("another_user", spawning::another_user),
    ("failures_in_words", spawning::failures_in_words),
    ("a_slow_daemon_loses_nothing", exits::a_slow_daemon_loses_nothing),
    ("what_is_held_comes_back", exits::what_is_held_comes_back),
    ("nobody_survives_a_stop_in_a_cgroup", trees::nobody_survives_a_stop_in_a_cgroup),
    ("nobody_survives_a_stop_in_a_session", trees::nobody_survives_a_stop_in_a_session),
    ("gone_waits_for_the_kids_in_a_cgroup", trees::gone_waits_for_the_kids_in_a_cgroup),
    ("gone_waits_for_the_kids_in_a_session", trees::gone_waits_for_the_kids_in_a_session),
    ("one_tree_never_touches_another", trees::one_tree_never_touches_another),
    ("fifty_kills_of_the_daemon", daemons::fifty_kills_of_the_daemon),
    ("last_words_are_obeyed", daemons::last_words_are_obeyed),
    ("signals_reach_the_daemon", daemons::signals_reach_the_daemon),
    (
        "a_daemon_that_cannot_start_ends_the_guard",
        daemons::a_daemon_that_cannot_start_ends_the_guard,
    ),
    ("a_new_guard_takes_over_in_a_cgroup", recovery::a_new_guard_takes_over_in_a_cgroup),
    ("a_new_guard_takes_over_in_a_session", recovery::a_new_guard_takes_over_in_a_session),
    ("a_new_guard_restarts_the_daemon", recovery::a_new_guard_restarts_the_daemon),
    ("unmodified_servers_share_a_port", ports::unmodified_servers_share_a_port),
    ("the_next_life_listens_on_the_same_socket", ports::the_next_life_listens_on_the_same_socket),
    ("each_address_has_a_socket_of_its_own", ports::each_address_has_a_socket_of_its_own),
    ("what_is_not_the_port_is_its_own", ports::what_is_not_the_port_is_its_own),
    ("a_new_guard_answers_as_well", ports::a_new_guard_answers_as_well),
    ("a_trap_that_cannot_be_set_is_said", ports::a_trap_that_cannot_be_set_is_said),
    ("strays_are_found", recovery::strays_are_found),
    ("an_idle_guard_is_small_and_sleeps", exits::an_idle_guard_is_small_and_sleeps),
];

/// Prints a figure; it is worth more than a passed test.
fn say(text: &str) {
    println!("  {text}");
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(code) = roles::play(&arguments) {
        return code;
    }
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, _) in TESTS {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let exact = arguments.iter().any(|argument| argument == "--exact");
    let filters: Vec<_> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| {
        let fits = |filter: &&String| if exact { *filter == name } else { name.contains(*filter) };
        filters.is_empty() || filters.iter().any(fits)
    };
    // `--ignored` asks for tests that are left out by default; there are none
    let none = arguments.iter().any(|argument| argument == "--ignored");
    let mut failed = 0;
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted(name) && !none) {
        let passed = catch_unwind(test).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += u32::from(!passed);
    }
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
