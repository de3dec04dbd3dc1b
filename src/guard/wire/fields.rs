//! How what orders and notices speak of becomes bytes and back.

use std::time::Duration;

use super::{
    Channel, Life, Output, Role, Spawn, Trap,
    codec::{Reader, WireError, Writer},
};
use crate::domain::{Exit, Moment, Pid, User};

pub(super) fn write_spawn(to: &mut Writer, spawn: &Spawn) {
    to.text(&spawn.label);
    to.text(&spawn.note);
    to.list(&spawn.argv, |to, argument| to.os(argument));
    to.list(&spawn.env, |to, (name, value)| {
        to.os(name);
        to.os(value);
    });
    to.path(&spawn.cwd);
    to.option(spawn.user, |to, user| {
        to.u32(user.uid);
        to.u32(user.gid);
    });
    to.list(&spawn.limits, |to, (name, value)| {
        to.text(name);
        to.option(*value, Writer::u64);
    });
    to.list(&spawn.listen, |to, key| to.text(key));
    to.u8(match spawn.channel {
        Channel::Off => 0,
        Channel::Json => 1,
    });
    to.option(spawn.notify.as_deref(), Writer::path);
    write_output(to, spawn.out);
    write_output(to, spawn.err);
    write_trap(to, spawn.trap.as_ref());
}

pub(super) fn read_spawn(from: &mut Reader<'_>) -> Result<Spawn, WireError> {
    Ok(Spawn {
        label: from.text()?,
        note: from.text()?,
        argv: from.list(Reader::os)?,
        env: from.list(|from| Ok((from.os()?, from.os()?)))?,
        cwd: from.path()?,
        user: from.option(|from| Ok(User { uid: from.u32()?, gid: from.u32()? }))?,
        limits: from.list(|from| Ok((from.text()?, from.option(Reader::u64)?)))?,
        listen: from.list(Reader::text)?,
        channel: if from.flag()? { Channel::Json } else { Channel::Off },
        notify: from.option(Reader::path)?,
        out: read_output(from)?,
        err: read_output(from)?,
        trap: read_trap(from)?,
    })
}

fn write_trap(to: &mut Writer, trap: Option<&Trap>) {
    to.option(trap, |to, Trap { port, key }| {
        to.u16(*port);
        to.text(key);
    });
}

fn read_trap(from: &mut Reader<'_>) -> Result<Option<Trap>, WireError> {
    from.option(|from| Ok(Trap { port: from.u16()?, key: from.text()? }))
}

fn write_output(to: &mut Writer, output: Output) {
    to.option(
        match output {
            Output::Pipe { bytes } => Some(bytes),
            Output::Nowhere => None,
        },
        Writer::u32,
    );
}

fn read_output(from: &mut Reader<'_>) -> Result<Output, WireError> {
    Ok(from.option(Reader::u32)?.map_or(Output::Nowhere, |bytes| Output::Pipe { bytes }))
}

pub(super) fn write_worker(to: &mut Writer, life: &Life, roles: &[Role]) {
    to.text(&life.label);
    to.text(&life.note);
    to.i32(life.pid.0);
    to.u64(life.started_ticks);
    let nanos = life.spawned.since_boot().as_nanos();
    to.u64(u64::try_from(nanos).unwrap_or(u64::MAX));
    to.option(life.exit, write_exit);
    to.u8(u8::from(life.gone));
    write_trap(to, life.trap.as_ref());
    to.list(&life.listens, |to, key| to.text(key));
    to.list(roles, |to, role| {
        to.u8(match role {
            Role::Out => 0,
            Role::Err => 1,
            Role::Channel => 2,
            Role::Notify => 3,
            Role::Trap => 4,
        });
    });
}

pub(super) fn read_life(from: &mut Reader<'_>) -> Result<Life, WireError> {
    Ok(Life {
        label: from.text()?,
        note: from.text()?,
        pid: Pid(from.i32()?),
        started_ticks: from.u64()?,
        spawned: Moment::from_boot(Duration::from_nanos(from.u64()?)),
        exit: from.option(read_exit)?,
        gone: from.flag()?,
        trap: read_trap(from)?,
        listens: from.list(Reader::text)?,
    })
}

pub(super) fn read_role(from: &mut Reader<'_>) -> Result<Role, WireError> {
    match from.u8()? {
        0 => Ok(Role::Out),
        1 => Ok(Role::Err),
        2 => Ok(Role::Channel),
        3 => Ok(Role::Notify),
        4 => Ok(Role::Trap),
        tag => Err(WireError::Tag(tag)),
    }
}

pub(super) fn write_exit(to: &mut Writer, exit: Exit) {
    match exit {
        Exit::Code(code) => {
            to.u8(0);
            to.i32(code);
        }
        Exit::Signal(signal) => {
            to.u8(1);
            to.i32(signal);
        }
        Exit::Unknown => to.u8(2),
    }
}

pub(super) fn read_exit(from: &mut Reader<'_>) -> Result<Exit, WireError> {
    match from.u8()? {
        0 => Ok(Exit::Code(from.i32()?)),
        1 => Ok(Exit::Signal(from.i32()?)),
        2 => Ok(Exit::Unknown),
        tag => Err(WireError::Tag(tag)),
    }
}
