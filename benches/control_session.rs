//! Cost of reading clients' requests: many small ones, and one `start` with a large environment.

use std::{fmt::Write as _, hint::black_box};

use bunpilot::control::session::Session;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// What one read from a client's socket brings at most.
const READ_BYTES: usize = 16 << 10;

fn lists() -> Vec<u8> {
    br#"{"id":"1","cmd":"list","args":{}}"#.iter().chain(b"\n").copied().collect::<Vec<_>>().repeat(100)
}

/// 200 variables of 100 bytes: a large shell environment.
fn start() -> Vec<u8> {
    let mut env = String::new();
    for number in 0..200 {
        let comma = if number == 0 { "" } else { "," };
        let _infallible = write!(env, r#"{comma}"VARIABLE_{number}":"{}""#, "x".repeat(100));
    }
    let config = format!(r#"{{"name":"api","script":"/srv/api.js","env":{{{env}}}}}"#);
    format!(
        "{{\"id\":\"1\",\"cmd\":\"start\",\"args\":{{\"name\":\"api\",\"config\":{config}}}}}\n"
    )
    .into_bytes()
}

fn control_session(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("control_session");
    for (name, bytes, requests) in [("100 lists", lists(), 100), ("a start", start(), 1)] {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        group.throughput(Throughput::Bytes(size));
        group.bench_with_input(BenchmarkId::from_parameter(name), &bytes, |bencher, bytes| {
            bencher.iter(|| {
                let (mut session, mut heard) = (Session::default(), Vec::new());
                for read in black_box(bytes).chunks(READ_BYTES) {
                    session.receive(read, &mut heard);
                }
                assert_eq!(heard.iter().filter(|it| it.is_ok()).count(), requests);
                heard
            });
        });
    }
    group.finish();
}

criterion_group!(benches, control_session);
criterion_main!(benches);
