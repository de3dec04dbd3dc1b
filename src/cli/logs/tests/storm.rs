//! Rows that are written, rotated and packed while somebody reads them.

use proptest::{collection::vec, prop_oneof, strategy::Strategy, test_runner::Config};

use super::*;

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// So many bytes of lines are written, perhaps the half of one.
    Append(usize),
    Rotate,
    /// The full file of this number is packed, if there is one that is not.
    Pack(u16, Compression),
    /// The reader reads a block.
    Read,
    /// The reader reads all there is.
    CatchUp,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let how = prop_oneof![
        proptest::strategy::Just(Compression::Gzip),
        proptest::strategy::Just(Compression::Zstd)
    ];
    let deed = prop_oneof![
        4 => (1_usize..40).prop_map(Deed::Append),
        2 => proptest::strategy::Just(Deed::Rotate),
        2 => (1_u16..5, how).prop_map(|(number, how)| Deed::Pack(number, how)),
        2 => proptest::strategy::Just(Deed::Read),
        1 => proptest::strategy::Just(Deed::CatchUp),
    ];
    vec(deed, 1..60)
}

/// One stream, all that was written to it, and a reader that is somewhere in it.
struct Scene {
    home: Home,
    written: String,
    /// Bytes of `written` in files so far.
    sent: usize,
    lines: usize,
    tail: Tail,
    read: String,
}

const NAME: &str = "api-0-out.log";

impl Scene {
    /// The reader begins at the last `lines` lines once the first deeds are done.
    fn begin(before: &[Deed], lines: usize) -> (Self, usize) {
        let home = Home::new();
        home.write(NAME, "");
        let nowhere = Path::new("/nonexistent");
        let path = home.file(NAME);
        let none = Tail::open(&path, nowhere, Lines::All, &Query::EVERYTHING).unwrap();
        let (written, read) = (String::new(), String::new());
        let mut scene = Self { home, written, sent: 0, lines: 0, tail: none, read };
        for deed in before {
            if !matches!(deed, Deed::Read | Deed::CatchUp) {
                scene.carry_out(*deed);
            }
        }
        let count = Lines::Last(lines.try_into().unwrap());
        scene.tail = Tail::open(&path, nowhere, count, &Query::EVERYTHING).unwrap();
        scene.read.clear();
        let there: Vec<&str> = scene.written[..scene.sent].split_inclusive('\n').collect();
        let begin = there[..there.len().saturating_sub(lines)].concat().len();
        (scene, begin)
    }

    fn carry_out(&mut self, deed: Deed) {
        match deed {
            Deed::Append(bytes) => {
                while self.written.len() < self.sent + bytes {
                    writeln!(self.written, "line {}", self.lines).unwrap();
                    self.lines += 1;
                }
                let to = self.sent + bytes;
                self.home.append(NAME, &self.written[self.sent..to]);
                self.sent = to;
            }
            Deed::Rotate => {
                // The pump cuts between lines.
                if self.sent > 0 && self.written[..self.sent].ends_with('\n') {
                    self.home.rotate(NAME);
                }
            }
            Deed::Pack(number, how) => {
                if Slot::Rotated(number).path(&self.home.file(NAME)).exists() {
                    self.home.pack(NAME, number, how);
                }
            }
            Deed::Read => {
                self.step();
            }
            Deed::CatchUp => while self.step() {},
        }
    }

    /// Reads a block; says whether there was one.
    fn step(&mut self) -> bool {
        let filled = self.tail.fill().unwrap();
        while self.tail.next(&Query::EVERYTHING).is_some() {
            let line = self.tail.front().unwrap();
            self.read.push_str(std::str::from_utf8(line.bytes).unwrap());
            self.tail.pop();
        }
        match filled {
            Filled::More => true,
            Filled::End => false,
            Filled::Missed(_) | Filled::Damaged(_) => panic!("{filled:?}"),
        }
    }
}

proptest::proptest! {
    #![proptest_config(Config { cases: 100, failure_persistence: None, ..Config::default() })]

    /// Every line comes once and in order, whatever happens to its file before, while or after it
    /// is read.
    #[test]
    fn every_line_comes_once_and_in_order(
        before in deeds(),
        while_reading in deeds(),
        lines in 0_usize..30,
    ) {
        let (mut scene, begin) = Scene::begin(&before, lines);
        let live_from = while_reading.len() / 3;
        for (number, deed) in while_reading.iter().enumerate() {
            if number == live_from {
                // As `bunpilot logs -f`: the backlog is read to its end first.
                scene.carry_out(Deed::CatchUp);
                scene.tail.go_live();
            }
            scene.carry_out(*deed);
        }
        scene.tail.go_live();
        scene.carry_out(Deed::CatchUp);
        scene.read.push_str(std::str::from_utf8(scene.tail.rest()).unwrap());
        proptest::prop_assert_eq!(&scene.read, &scene.written[begin..scene.sent]);
    }
}
