//! A ring and whoever takes what comes through it, one at a time: somebody who is called, or a *taker*, who comes by himself.
//!
//! The consumer may be swapped at any moment, for one of the other sort too: every item goes to exactly one of them, in order.
//! While a taker is the consumer, whoever drains the inbox leaves the ring unsettled (*held*): nobody is told of it again until
//! the taker has looked.
//!
//! The lock is held for moments only. Nothing of the consumer's runs or is dropped under it: what made room comes back.

use std::mem;
use std::sync::PoisonError;
use std::time::Duration;

use super::sync::{Condvar, Mutex, MutexGuard};
use super::{RingReceiver, Source};

/// `C` is who is called; `W` whom a taker leaves to be told when something is there.
pub struct Desk<T, C, W> {
    items: RingReceiver<T>,
    place: Mutex<Place<C, W>>,
    /// Something may be there for a taker, or he is none any more.
    news: Condvar,
}

struct Place<C, W> {
    /// `None`: closed. Stays so.
    consumer: Option<Consumer<C>>,
    /// Taken from the ready list and not settled, on behalf of a taker.
    held: bool,
    waiting: Vec<W>,
    takers: u64,
}

enum Consumer<C> {
    Called(C),
    /// The number tells him from those before. 0: he is still to come.
    Taker(u64),
}

/// Who was there before, and who waits to hear of it.
#[must_use = "whoever waits is to be told"]
pub struct Left<C, W> {
    pub consumer: Option<C>,
    pub waiting: Vec<W>,
    /// There was somebody: it was not closed.
    pub open: bool,
}

/// Where the next item goes.
pub enum Way<R, W> {
    Called(R),
    /// To a taker: these wait for it. The ring is held for him.
    Taker(Vec<W>),
    Nowhere,
}

/// What a taker finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<T> {
    Item(T),
    Nothing,
    /// There is another consumer now, or none.
    Over,
}

impl<T, C, W> Desk<T, C, W> {
    /// Without a consumer for one who comes by himself, later.
    pub fn new(items: RingReceiver<T>, consumer: Option<C>) -> Self {
        let consumer = consumer.map_or(Consumer::Taker(0), Consumer::Called);
        let place = Place { consumer: Some(consumer), held: false, waiting: Vec::new(), takers: 0 };
        Self { items, place: Mutex::new(place), news: Condvar::new() }
    }

    /// The ring itself, for whoever drains the inbox.
    pub fn items(&self) -> &RingReceiver<T> {
        &self.items
    }

    /// What comes from now on, and what is there, goes to `consumer`, or to a taker who is still to come. A closed desk stays closed:
    /// then it is `consumer` who is given back. Whoever calls this flushes the inbox: the ring may be ready again.
    pub fn swap(&self, consumer: Option<C>) -> Left<C, W> {
        let mut place = self.place();
        self.replace(&mut place, consumer.map_or(Consumer::Taker(0), Consumer::Called))
    }

    /// A taker becomes the consumer; his number. The inbox is to be flushed, as after a swap.
    pub fn begin_taking(&self) -> (u64, Left<C, W>) {
        let mut place = self.place();
        place.takers += 1;
        let number = place.takers;
        (number, self.replace(&mut place, Consumer::Taker(number)))
    }

    /// Nobody takes anything after this.
    pub fn close(&self) -> Left<C, W> {
        let mut place = self.place();
        let left = Left::of(place.consumer.take(), mem::take(&mut place.waiting));
        self.news.notify_all();
        left
    }

    /// Closes it for whoever is called, if it is he whom `of` means.
    pub fn close_if(&self, of: impl FnOnce(&C) -> bool) -> Option<C> {
        let mut place = self.place();
        match place.consumer.take() {
            Some(Consumer::Called(consumer)) if of(&consumer) => Some(consumer),
            other => {
                place.consumer = other;
                None
            }
        }
    }

    /// Before each item, for whoever drains the inbox and has been given this ring: the consumer may be swapped or closed by the
    /// one before. `look` makes of him what is needed to call him.
    pub fn way<R>(&self, look: impl FnOnce(&C) -> R) -> Way<R, W> {
        let mut place = self.place();
        match &place.consumer {
            Some(Consumer::Called(consumer)) => Way::Called(look(consumer)),
            Some(Consumer::Taker(_)) => {
                place.held = true;
                let waiting = mem::take(&mut place.waiting);
                // Whoever wakes up wants the lock first.
                drop(place);
                self.news.notify_all();
                Way::Taker(waiting)
            }
            None => Way::Nowhere,
        }
    }

    /// What is there for this taker. `note` sees the item before anybody else can take the next one.
    pub fn find<R>(&self, number: u64, note: impl FnOnce(T) -> R) -> Found<R> {
        let place = self.place();
        if !place.serves(number) {
            return Found::Over;
        }
        self.items.pop().map_or(Found::Nothing, |item| Found::Item(note(item)))
    }

    pub fn is_over(&self, number: u64) -> bool {
        !self.place().serves(number)
    }

    /// Until something may be there for this taker, or for so long.
    pub fn wait(&self, number: u64, limit: Duration) {
        let mut place = self.place();
        self.let_go(&mut place);
        if place.serves(number) && self.items.is_empty() {
            drop(self.news.wait_timeout(place, limit).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// `whom` is told when something may be there for this taker. He is given back if that is so already. The inbox is to be flushed.
    pub fn wait_on(&self, number: u64, whom: W) -> Option<W> {
        let mut place = self.place();
        self.let_go(&mut place);
        if !place.serves(number) || !self.items.is_empty() {
            return Some(whom);
        }
        place.waiting.push(whom);
        None
    }

    fn replace(&self, place: &mut Place<C, W>, consumer: Consumer<C>) -> Left<C, W> {
        let left = match place.consumer.is_some() {
            true => Left::of(place.consumer.replace(consumer), mem::take(&mut place.waiting)),
            false => Left { open: false, ..Left::of(Some(consumer), Vec::new()) },
        };
        self.let_go(place);
        self.news.notify_all();
        left
    }

    /// Gives the ring back, so that it is told of again.
    fn let_go(&self, place: &mut Place<C, W>) {
        if mem::take(&mut place.held) {
            self.items.settle();
        }
    }

    fn place(&self) -> MutexGuard<'_, Place<C, W>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C, W> Left<C, W> {
    fn of(before: Option<Consumer<C>>, waiting: Vec<W>) -> Self {
        let open = before.is_some();
        let consumer = match before {
            Some(Consumer::Called(consumer)) => Some(consumer),
            _ => None,
        };
        Self { consumer, waiting, open }
    }
}

impl<C, W> Place<C, W> {
    fn serves(&self, number: u64) -> bool {
        matches!(&self.consumer, Some(Consumer::Taker(current)) if *current == number)
    }
}
