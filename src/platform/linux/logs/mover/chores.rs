//! What the pump does about files though nobody writes to them.

use std::{collections::BTreeSet, io};

use super::{
    super::{
        super::clock::unix_micros,
        PumpNotice,
        outlet::Outlet,
        row::{HalfLine, Removed, Row, identity},
        tidy::{Rotated, TidyOrder},
    },
    Mover,
};
use crate::{
    domain::Moment,
    logs::cut::Before,
    world::{Tidied, Tidying},
};

impl Outlet {
    /// Puts the file's chores on the timer, if they are not there yet. `key` is the outlet's own.
    pub(super) fn schedule(&mut self, key: u64, due: &mut BTreeSet<(Moment, u64)>) {
        let wanted = self.sink.chores_due();
        if wanted == self.chores_at {
            return;
        }
        if let Some(before) = self.chores_at.take() {
            due.remove(&(before, key));
        }
        due.extend(wanted.map(|moment| (moment, key)));
        self.chores_at = wanted;
    }
}

impl Mover {
    /// Has the outlet's chores done soon, whatever they are.
    pub(super) fn soon_keep_house(&mut self, key: u64, now: Moment) {
        if let Some(outlet) = self.outlets.get_mut(&key) {
            outlet.sink.soon_keep_house(now);
            outlet.schedule(key, &mut self.due);
        }
    }

    /// Does the outlet's chores, which were taken off the timer.
    pub(super) fn keep_house(&mut self, key: u64, now: Moment) {
        let Some(outlet) = self.outlets.get_mut(&key) else { return };
        outlet.chores_at = None;
        if let Err(error) = outlet.sink.keep_house(now, &mut self.tools.reaper) {
            outlet.rotation_failed(&error, &self.tools.tell);
        }
        outlet.schedule(key, &mut self.due);
    }

    /// Puts packed files in their places.
    pub(super) fn adopt_packed(&mut self) {
        while let Some(parcel) = self.tools.reaper.packed() {
            let row = self.row(parcel.row());
            let adopted = row.adopt(parcel, &mut self.tools.reaper);
            match adopted {
                Ok(()) => row.tend(&mut self.tools.reaper, unix_micros()),
                Err(error) => {
                    let path = row.path().to_owned();
                    self.tell(PumpNotice::PackingFailed { path, reason: error.to_string() });
                }
            }
        }
    }

    /// The same row, kept as whoever writes it now wants it.
    fn row(&self, row: &Row) -> Row {
        let outlet = self.paths.get(row.path()).and_then(|key| self.outlets.get(key));
        outlet.map_or_else(|| row.clone(), |outlet| outlet.sink.row().clone())
    }

    /// Empties or rotates files on somebody's order.
    pub(super) fn tidy(&mut self, order: TidyOrder, now: Moment) {
        let TidyOrder { what, rows, done } = order;
        let mut tidied = Tidied::default();
        for (path, keep) in rows {
            let row = Row::new(path, keep);
            let outcome = match what {
                Tidying::Flush => self.flush(&row).map(|removed| {
                    tidied.files += removed.files;
                    tidied.bytes += removed.bytes;
                }),
                Tidying::Rotate => self.rotate_now(&row, now).map(|rotated| match rotated {
                    Rotated::Now => tidied.files += 1,
                    Rotated::AtLineEnd => tidied.waiting += 1,
                    Rotated::NotAtAll => (),
                }),
            };
            if let Err(error) = outcome {
                tidied.faults.push(format!("cannot {what} `{}`: {error}", row.path().display()));
            }
        }
        done(tidied);
    }

    fn flush(&mut self, row: &Row) -> io::Result<Removed> {
        let key = self.paths.get(row.path()).copied();
        let Some((key, outlet)) = key.and_then(|key| Some((key, self.outlets.get_mut(&key)?)))
        else {
            return row.flush(HalfLine::Goes, &mut self.tools.reaper);
        };
        let removed = outlet.sink.row().flush(HalfLine::Stays, &mut self.tools.reaper);
        outlet.sink.reopen();
        // Whoever still wants to count what was removed keeps it from being freed.
        for inlet in self.inlets.values().filter(|inlet| inlet.outlet == key) {
            self.tools.census.ask(&inlet.tally);
        }
        removed
    }

    fn rotate_now(&mut self, row: &Row, now: Moment) -> io::Result<Rotated> {
        let key = self.paths.get(row.path()).copied();
        let Some((key, outlet)) = key.and_then(|key| Some((key, self.outlets.get_mut(&key)?)))
        else {
            return row.rotate_if_filled(&mut self.tools.reaper, unix_micros());
        };
        if identity(row.path()).is_none() {
            return Ok(Rotated::NotAtAll);
        }
        outlet.sink.prepare(now)?;
        match outlet.sink.before()? {
            Before::Nothing => Ok(Rotated::NotAtAll),
            Before::WholeLine => {
                let rotated = outlet.sink.rotate(now, &mut self.tools.reaper);
                outlet.schedule(key, &mut self.due);
                rotated.map(|()| Rotated::Now)
            }
            Before::HalfLine => {
                outlet.sink.ask_to_rotate();
                Ok(Rotated::AtLineEnd)
            }
        }
    }
}
