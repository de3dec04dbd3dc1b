//! The sockets of one app on one address, each with the key the guard holds it by.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    os::fd::OwnedFd,
};

use super::{
    super::selector::{Group, ListenError, Place, in_words},
    key::Key,
};

/// One app's sockets on one address.
pub(super) struct Pool {
    group: Group,
    /// Of each socket of the group.
    keys: Vec<Key>,
    /// Who gets new connections, as far as we told the kernel.
    selected: BTreeMap<usize, NonZeroU16>,
    /// Sockets that take nobody for a moment: their worker leaves and no other is there.
    shut: BTreeSet<usize>,
}

impl Pool {
    /// Opens `keys.len()` sockets of our own, where nobody listens on the port but us.
    pub(super) fn open(port: u16, keys: Vec<Key>) -> Result<Self, ListenError> {
        let group = Group::open_beside(port, keys.len())?;
        Ok(Self { group, keys, selected: BTreeMap::new(), shut: BTreeSet::new() })
    }

    /// Begins with a socket somebody else opened.
    pub(super) fn begin(key: Key, socket: OwnedFd) -> Result<Self, ListenError> {
        let group = Group::begin(socket)?;
        Ok(Self { group, keys: vec![key], selected: BTreeMap::new(), shut: BTreeSet::new() })
    }

    /// Takes back sockets the guard kept, in the order in which they began to listen.
    pub(super) fn adopt(sockets: Vec<(Key, OwnedFd)>) -> Result<Self, ListenError> {
        let (keys, sockets): (Vec<Key>, _) = sockets.into_iter().unzip();
        let group = Group::adopt(sockets)?;
        for index in 0..keys.len() {
            // as the daemon before may have left it
            group.reopen(index)?;
        }
        Ok(Self { group, keys, selected: BTreeMap::new(), shut: BTreeSet::new() })
    }

    pub(super) fn port(&self) -> u16 {
        self.group.port()
    }

    pub(super) fn place(&self) -> Option<Place> {
        self.group.place()
    }

    pub(super) fn keys(&self) -> &[Key] {
        &self.keys
    }

    pub(super) fn position(&self, key: Key) -> Option<usize> {
        self.keys.iter().position(|it| *it == key)
    }

    /// Opens more sockets of our own.
    pub(super) fn grow(&mut self, keys: impl IntoIterator<Item = Key>) -> Result<(), ListenError> {
        for key in keys {
            self.group.grow(self.keys.len() + 1)?;
            self.keys.push(key);
        }
        Ok(())
    }

    /// Takes in a socket that has just begun to listen.
    pub(super) fn join(&mut self, key: Key, socket: OwnedFd) -> Result<(), ListenError> {
        self.group.join(socket)?;
        self.keys.push(key);
        Ok(())
    }

    /// Lets go of sockets a worker shut down: the kernel has, too.
    pub(super) fn prune(&mut self) {
        for position in (0..self.keys.len()).rev() {
            let trapped = self.keys.get(position).is_some_and(|it| matches!(it, Key::Trapped(..)));
            if trapped && self.group.drop_if_deaf(position) {
                self.keys.swap_remove(position);
                // the numbers have changed
                self.selected.clear();
                self.shut.clear();
            }
        }
    }

    /// Copies of the sockets from `position` on, for the guard to keep.
    pub(super) fn copies(&self, position: usize) -> Result<Vec<(Key, OwnedFd)>, ListenError> {
        let sockets = self.keys.iter().copied().zip(self.group.fds()).skip(position);
        let copy = |(key, fd): (Key, std::os::fd::BorrowedFd<'_>)| {
            let copy = fd.try_clone_to_owned().map_err(|source| ListenError::Refused {
                what: "keep a socket",
                port: self.group.port(),
                source,
            });
            Ok((key, copy?))
        };
        sockets.map(copy).collect()
    }

    /// Tells the kernel whom to choose from, if that is news. With nobody to choose it goes on
    /// with whom it had: their queues are served first.
    pub(super) fn select(&mut self, chosen: BTreeMap<usize, NonZeroU16>) {
        if chosen.is_empty() || chosen == self.selected {
            return;
        }
        let weighted: Vec<_> = chosen.iter().map(|(index, weight)| (*index, *weight)).collect();
        match self.group.select_weighted(&weighted) {
            Ok(()) => self.selected = chosen,
            Err(error) => {
                let error = in_words(&error);
                tracing::warn!(error, "the kernel goes on choosing as before");
            }
        }
    }

    /// Has exactly these sockets take nobody.
    pub(super) fn shut(&mut self, shut: BTreeSet<usize>) {
        let opened = self.shut.difference(&shut).map(|index| self.group.reopen(*index));
        let closed = shut.difference(&self.shut).map(|index| self.group.shut(*index));
        for error in opened.chain(closed).filter_map(Result::err) {
            let error = in_words(&error);
            tracing::warn!(error, "a worker that leaves may be given connections");
        }
        self.shut = shut;
    }

    /// Whether new connections may go to a socket.
    pub(super) fn is_selected(&self, position: usize) -> bool {
        self.selected.contains_key(&position) && !self.shut.contains(&position)
    }

    /// Connections that wait at a socket; 0 also where nobody can tell.
    pub(super) fn backlog(&self, position: usize) -> u32 {
        self.group.backlog(position).unwrap_or(0)
    }

    pub(super) fn inode(&self, position: usize) -> Option<u64> {
        self.group.inode(position).ok()
    }

    /// Whether a client of 127.0.0.1 reaches it.
    pub(super) fn is_local(&self) -> bool {
        self.place().is_some_and(|Place { address, only_v6 }| match address {
            SocketAddr::V4(it) => it.ip().is_unspecified() || it.ip().is_loopback(),
            SocketAddr::V6(it) => {
                let mapped = it.ip().to_ipv4_mapped().map(IpAddr::V4);
                !only_v6 && (it.ip().is_unspecified() || mapped.is_some_and(|it| it.is_loopback()))
            }
        })
    }

    /// Stops listening at once; yields the keys the guard is to let go.
    pub(super) fn close(self) -> Vec<Key> {
        self.group.close();
        self.keys
    }
}
