//! The session behind a [`Topology`]: what the link says goes through it, and what we do goes through it to the link.

use super::streams::Stream;
use super::{Session, Transmit};
use crate::moqt::draft16::{Delivery, Topology};

impl Session {
    /// Something from the link, in an older draft's form; what it means for us is carried out.
    pub(super) fn through(&mut self, hand_in: impl FnOnce(&mut Topology, &mut u64)) {
        if let Some(older) = &mut self.older {
            hand_in(older, &mut self.accepted_streams);
        }
        self.take_deliveries();
        // Before SETUP its own time counts.
        if self.is_set_up && self.older.as_ref().is_some_and(|older| older.holds_unfinished()) {
            self.watch_stalls();
        }
    }

    fn take_deliveries(&mut self) {
        while let Some(delivery) = self.older.as_mut().and_then(|older| older.deliveries.pop_front()) {
            if self.closed {
                continue;
            }
            match delivery {
                Delivery::Accept(stream, dir) => drop(self.streams.insert(stream, Stream::accepted(dir, self.draft))),
                Delivery::Data(stream, data, fin) => self.data(stream, data, fin),
                Delivery::Reset(stream, code) => self.reset(stream, code),
                Delivery::Stop(stream, code) => self.stopped(stream, code),
                Delivery::Datagram(data) => self.datagram_arrived(&data),
                Delivery::Written(stream, bytes) => self.written(stream, bytes),
                Delivery::Fail(violation) => self.fail(violation),
            }
        }
    }

    /// The next thing for the link, in the older draft's form.
    pub(super) fn poll_older(&mut self) -> Option<Transmit> {
        loop {
            if let Some(ready) = self.older.as_mut().and_then(|older| older.transmits.pop_front()) {
                return Some(ready);
            }
            let transmit = self.next_transmit()?;
            self.older.as_mut()?.transmit(transmit);
            self.take_deliveries();
        }
    }
}
