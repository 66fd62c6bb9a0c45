//! Crossbeam's two queues by what they promise.

use std::collections::VecDeque;

use loom::sync::{Mutex, MutexGuard};

pub(crate) struct ArrayQueue<T> {
    items: Mutex<VecDeque<T>>,
    capacity: usize,
}

pub(crate) struct SegQueue<T>(Mutex<VecDeque<T>>);

fn lock<T>(items: &Mutex<VecDeque<T>>) -> MutexGuard<'_, VecDeque<T>> {
    items.lock().expect("no model panics in here")
}

impl<T> ArrayQueue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { items: Mutex::new(VecDeque::new()), capacity }
    }

    pub(crate) fn force_push(&self, item: T) -> Option<T> {
        let mut items = lock(&self.items);
        let oldest = if items.len() == self.capacity { items.pop_front() } else { None };
        items.push_back(item);
        oldest
    }

    pub(crate) fn pop(&self) -> Option<T> {
        lock(&self.items).pop_front()
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.items).len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }
}

impl<T> SegQueue<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    pub(crate) fn push(&self, item: T) {
        lock(&self.0).push_back(item);
    }

    pub(crate) fn pop(&self) -> Option<T> {
        lock(&self.0).pop_front()
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.0).len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
