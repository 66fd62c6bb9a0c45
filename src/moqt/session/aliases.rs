//! Track aliases of the peer (§11.1): who they belong to, who they belonged to, and data that came before its alias.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::{Limits, RequestId, StreamId, constants};
use crate::moqt::Object;

/// Whose data an alias is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Named by this request's SUBSCRIBE_OK or PUBLISH.
    Request(RequestId),
    /// Its subscription was cancelled.
    Retired,
    Unknown,
}

pub(super) struct Aliases {
    owners: HashMap<u64, RequestId>,
    /// Oldest first, each once.
    retired: VecDeque<u64>,
    time: Duration,
    max_bytes: usize,
    bytes: usize,
    /// Streams that wait, oldest first, with the bytes each is counted for.
    streams: VecDeque<(Instant, StreamId, usize)>,
    datagrams: VecDeque<(Instant, u64, Object)>,
}

/// What a held thing costs beside its bytes.
const OVERHEAD: usize = 64;

fn cost(object: &Object) -> usize {
    object.payload.len() + object.properties.len() + OVERHEAD
}

impl Aliases {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            owners: HashMap::new(),
            retired: VecDeque::new(),
            time: limits.pending_time,
            max_bytes: limits.pending_bytes,
            bytes: 0,
            streams: VecDeque::new(),
            datagrams: VecDeque::new(),
        }
    }

    pub(super) fn owner(&self, alias: u64) -> Owner {
        match self.owners.get(&alias) {
            Some(request) => Owner::Request(*request),
            None if self.retired.contains(&alias) => Owner::Retired,
            None => Owner::Unknown,
        }
    }

    pub(super) fn name(&mut self, alias: u64, request: RequestId) {
        self.owners.insert(alias, request);
        self.retired.retain(|retired| *retired != alias);
    }

    /// The request is over: what still comes for its alias is late. Another request may have taken the alias meanwhile.
    pub(super) fn retire(&mut self, alias: u64, request: RequestId) {
        if self.owners.get(&alias) != Some(&request) {
            return;
        }
        self.owners.remove(&alias);
        self.refuse(alias);
    }

    /// Data of this alias is not wanted, unless it belongs to somebody.
    pub(super) fn refuse(&mut self, alias: u64) {
        if self.owner(alias) != Owner::Unknown {
            return;
        }
        if self.retired.len() == constants::RETIRED_ALIASES {
            self.retired.pop_front();
        }
        self.retired.push_back(alias);
    }

    /// `false`: no room for `bytes` more of this stream, which is then forgotten.
    pub(super) fn hold_stream(&mut self, stream: StreamId, bytes: usize, now: Instant) -> bool {
        let held = self.streams.iter_mut().find(|(_, held, _)| *held == stream);
        let before = held.as_ref().map_or(0, |(.., before)| *before);
        let total = self.bytes - before + bytes + OVERHEAD;
        if total > self.max_bytes {
            self.forget_stream(stream);
            return false;
        }
        self.bytes = total;
        match held {
            Some((.., counted)) => *counted = bytes + OVERHEAD,
            None => self.streams.push_back((now + self.time, stream, bytes + OVERHEAD)),
        }
        true
    }

    pub(super) fn forget_stream(&mut self, stream: StreamId) {
        if let Some(at) = self.streams.iter().position(|(_, held, _)| *held == stream)
            && let Some((.., bytes)) = self.streams.remove(at)
        {
            self.bytes -= bytes;
        }
    }

    /// `false`: no room.
    pub(super) fn hold_datagram(&mut self, alias: u64, object: Object, now: Instant) -> bool {
        let total = self.bytes + cost(&object);
        let fits = total <= self.max_bytes;
        if fits {
            self.bytes = total;
            self.datagrams.push_back((now + self.time, alias, object));
        }
        fits
    }

    pub(super) fn held_streams(&self) -> Vec<StreamId> {
        self.streams.iter().map(|(_, stream, _)| *stream).collect()
    }

    /// Takes out the datagrams of one alias, oldest first.
    pub(super) fn take_datagrams(&mut self, alias: u64) -> Vec<Object> {
        let mut taken = Vec::new();
        self.datagrams.retain_mut(|(_, other, object)| {
            let keep = *other != alias;
            if !keep {
                taken.push(std::mem::take(object));
            }
            keep
        });
        self.bytes -= taken.iter().map(cost).sum::<usize>();
        taken
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let streams = self.streams.front().map(|(until, ..)| *until);
        let datagrams = self.datagrams.front().map(|(until, ..)| *until);
        streams.into_iter().chain(datagrams).min()
    }

    /// SETUP has come: only now the alias can be named, so the time counts from here.
    pub(super) fn restart(&mut self, now: Instant) {
        let until = now + self.time;
        self.streams.iter_mut().for_each(|(at, ..)| *at = until);
        self.datagrams.iter_mut().for_each(|(at, ..)| *at = until);
    }

    /// Drops what waited too long: the streams, and how many datagrams.
    pub(super) fn expire(&mut self, now: Instant) -> (Vec<StreamId>, u64) {
        let mut streams = Vec::new();
        while let Some((_, stream, bytes)) = self.streams.pop_front_if(|(until, ..)| *until <= now) {
            self.bytes -= bytes;
            streams.push(stream);
        }
        let mut datagrams = 0;
        while let Some((.., object)) = self.datagrams.pop_front_if(|(until, ..)| *until <= now) {
            self.bytes -= cost(&object);
            datagrams += 1;
        }
        (streams, datagrams)
    }
}
