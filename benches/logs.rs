//! Cost of the quiet part of logs: where to cut, which lines were asked for, when they came,
//! and what is written of them.

use std::hint::black_box;

use bunpilot::domain::{AppId, WorkerId};
use bunpilot::logs::{
    Stream,
    cut::{Before, Cut, cut, whole_lines},
    index::{BLOCK_BYTES, Entry, Writer, entries},
    query::{Head, Search, first},
    record::{Form, Label, Tail, time},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// What a pipe holds at most.
const PIPE_BYTES: usize = 256 << 10;

/// What `bunpilot logs` reads at a time, from the end of a file.
const BLOCK: usize = 64 << 10;

/// Lines of `length` bytes, as many as fit a pipe.
fn lines(length: usize) -> Vec<u8> {
    let line = "x".repeat(length - 1) + "\n";
    line.repeat(PIPE_BYTES / length).into_bytes()
}

fn bytes(text: &[u8]) -> Throughput {
    Throughput::Bytes(u64::try_from(text.len()).unwrap_or(u64::MAX))
}

fn cuts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("logs_cut");
    for length in [100, 1_000, 100_000] {
        let text = lines(length);
        let room = u64::try_from(text.len() / 2).unwrap_or(u64::MAX);
        group.throughput(bytes(&text));
        group.bench_with_input(BenchmarkId::new("cut", length), &text, |bencher, text| {
            bencher.iter(|| {
                let cut = cut(black_box(text), room, Before::WholeLine);
                assert!(matches!(cut, Cut::At(at) if at % length == 0));
                cut
            });
        });
        group.bench_with_input(BenchmarkId::new("whole lines", length), &text, |bencher, text| {
            let seen = &text[..text.len() - 1];
            bencher.iter(|| assert_eq!(whole_lines(black_box(seen)) % length, 0));
        });
    }
    group.finish();
}

fn queries(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("logs_query");
    let text = lines(100).repeat(4);
    group.throughput(bytes(&text));
    group.bench_function("the last 10,000 lines", |bencher| {
        bencher.iter(|| {
            let mut search = Search::new(10_000);
            let found = text.rchunks(BLOCK).find_map(|block| search.feed(black_box(block)));
            assert!(found.is_some());
            found
        });
    });
    let heads: Vec<_> =
        (0..200).map(|source| Head { unix_micros: 1 << 50, source: 200 - source }).collect();
    group.throughput(Throughput::Elements(1));
    group.bench_function("the first of 200 sources", |bencher| {
        bencher.iter(|| assert_eq!(first(black_box(&heads).iter().copied()), Some(1)));
    });
    group.finish();
}

/// The index of a file of 10 MB that got a batch every 10 ms.
fn index() -> Vec<u8> {
    let mut writer = Writer::new(0);
    let mut file = vec![0; BLOCK_BYTES];
    for number in 1..1_000 {
        let entry = Entry { offset: number * 10_000, unix_micros: (1 << 50) + number * 10_000 };
        let piece = writer.push(entry);
        let at = usize::try_from(piece.at).unwrap_or(usize::MAX);
        file.resize(at + piece.bytes.len(), 0);
        file[at..].copy_from_slice(&piece.bytes);
    }
    file
}

fn indexes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("logs_index");
    group.throughput(Throughput::Elements(999));
    group.bench_function("write", |bencher| bencher.iter(index));
    let file = index();
    group.bench_function("read", |bencher| {
        bencher.iter(|| {
            let blocks = black_box(&file).chunks(BLOCK_BYTES).skip(1);
            let all = blocks.map(|it| entries(it).len()).sum::<usize>();
            assert_eq!(all, 999);
        });
    });
    group.finish();
}

fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("logs_record");
    let Ok(app) = "api".parse() else { return };
    let label = Label { app, worker: WorkerId::new(AppId(1), 2, 3), stream: Stream::Out };
    let plain = lines(100);
    let quoted = plain.iter().map(|it| if *it == b'x' { b'"' } else { *it }).collect();
    for (name, form, text) in [
        ("timestamps", Form::Timestamps, &plain),
        ("json", Form::Json(label.clone()), &plain),
        ("json, all of it escaped", Form::Json(label), &quoted),
    ] {
        let now = time(1 << 50);
        let mut out = Vec::new();
        group.throughput(bytes(text));
        group.bench_with_input(BenchmarkId::from_parameter(name), text, |bencher, text| {
            bencher.iter(|| {
                out.clear();
                let text = black_box(text);
                let done =
                    form.transcribe(text, Before::Nothing, u64::MAX, Tail::More, &now, &mut out);
                assert_eq!((done.taken, done.full), (text.len(), false));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, cuts, queries, indexes, records);
criterion_main!(benches);
