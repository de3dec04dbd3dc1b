//! Cost of the quiet part of logs: where to cut, which lines were asked for, when they came.

use std::hint::black_box;

use bunpilot::{
    domain::{AppId, WorkerId},
    logs::{
        Stream,
        cut::{Before, Cut, cut, whole_lines},
        index::{BLOCK_BYTES, Entry, Writer, entries},
        query::{Head, Merge, Search},
        record::{Form, Label, Tail, time},
    },
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
    let mut heads = Merge::default();
    (0..200).for_each(|source| heads.push(Head { unix_micros: 1 << 50, source }));
    group.throughput(Throughput::Elements(1));
    group.bench_function("the next line of 200 sources", |bencher| {
        bencher.iter(|| {
            let Some(Head { unix_micros, source }) = heads.pop() else { return };
            heads.push(Head { unix_micros: unix_micros + 1_000, source });
        });
        assert_eq!(heads.pop().map(|head| head.unix_micros >= 1 << 50), Some(true));
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
    let label = Label { app, worker: WorkerId::new(AppId(1), 0, 1), stream: Stream::Out };
    let stamp = time(1_795_534_880_123_999);
    for (name, form) in [("timestamps", Form::Timestamps), ("json", Form::Json(label))] {
        for length in [100, 1_000] {
            let text = lines(length);
            let mut out = Vec::new();
            group.throughput(bytes(&text));
            group.bench_with_input(BenchmarkId::new(name, length), &text, |bencher, text| {
                bencher.iter(|| {
                    out.clear();
                    let (seen, before) = (black_box(text), Before::WholeLine);
                    let done =
                        form.transcribe(seen, before, u64::MAX, Tail::More, &stamp, &mut out);
                    assert_eq!(done.taken, text.len());
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, cuts, queries, indexes, records);
criterion_main!(benches);
