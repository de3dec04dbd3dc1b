//! Cost of reading what workers say on their channels.

use std::hint::black_box;

use bunpilot::ipc::channel::{Decoder, Message};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Messages in one burst.
const MESSAGES: usize = 100;

const HEARTBEAT: &str = r#"{"type":"heartbeat","uptime":123456}"#;
const METRICS: &str = r#"{"type":"metrics","payload":{"memory":{"rss":52428800,"heapTotal":41943040,"heapUsed":31457280,"external":1048576},"cpu":{"user":123456789,"system":23456789},"eventLoopLag":0.42}}"#;

fn burst(line: &str) -> Vec<u8> {
    format!("{line}\n").repeat(MESSAGES).into_bytes()
}

fn worker_channel(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("worker_channel");
    for (name, line) in [("heartbeat", HEARTBEAT), ("metrics", METRICS)] {
        let bytes = burst(line);
        group.throughput(Throughput::Elements(u64::try_from(MESSAGES).unwrap_or(u64::MAX)));
        group.bench_with_input(BenchmarkId::from_parameter(name), &bytes, |bencher, bytes| {
            bencher.iter(|| {
                let (mut decoder, mut messages) = (Decoder::default(), Vec::new());
                decoder.feed(black_box(bytes), &mut messages);
                let understood =
                    |it: &&Message| matches!(it, Message::Heartbeat(Some(_)) | Message::Metrics(_));
                assert_eq!(messages.iter().filter(understood).count(), MESSAGES);
                messages
            });
        });
    }
    group.finish();
}

criterion_group!(benches, worker_channel);
criterion_main!(benches);
