//! The task around the board: whatever comes first is handled, one thing at a time.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::board::{Board, Saving, Sid};
use super::desk::Desk;
use super::{MAX_REQUESTS, Parts, Request};
use crate::engine::media;
use crate::engine::store::StoreError;
use crate::engine::trunk::TrunkEvent;

/// At the end of the engine: how long the audio threads may take to say goodbye, and the disk to take the last records.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// At the end nobody wakes the board when a far side has heard the last word: it looks this often.
const CLOSE_LOOK: Duration = Duration::from_millis(20);
/// Without a timer the board looks around this often.
const IDLE: Duration = Duration::from_secs(3600);

pub(super) struct Channels {
    pub(super) trunks: mpsc::UnboundedReceiver<TrunkEvent>,
    pub(super) media: mpsc::UnboundedReceiver<media::Event>,
}

/// Runs the board until it is shut down.
pub struct Task {
    board: Board,
    channels: Channels,
    requests: mpsc::Receiver<Request>,
    saved: JoinSet<(Sid, Result<(), StoreError>)>,
}

impl Task {
    /// The board and the desk that asks it.
    pub fn new(parts: Parts) -> (Self, Desk) {
        let (sender, requests) = mpsc::channel(MAX_REQUESTS);
        let desk = Desk::new(sender, parts.store.clone());
        let (board, channels) = Board::new(parts);
        (Self { board, channels, requests, saved: JoinSet::new() }, desk)
    }

    /// Ends after [`Desk::shutdown`], when every call has ended, its media is closed, its far side told and its record durable, as far as that
    /// can be had within the limits.
    pub async fn run(mut self) {
        while !self.board.is_closing {
            if !self.turn(IDLE).await {
                break;
            }
        }
        let until = Instant::now() + CLOSE_LIMIT;
        while !self.is_done() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.turn(left.min(CLOSE_LOOK)).await {
                break;
            }
        }
        self.board.feed.end();
        drop(tokio::time::timeout(FLUSH_LIMIT, self.board.store.flush()).await);
    }

    fn is_done(&mut self) -> bool {
        let board = &mut self.board;
        board.open_media.is_empty() && self.saved.is_empty() && board.savings.is_empty() && board.trunks.lines() == 0
    }

    /// One event, or the next timer. `false`: nobody can ask any more.
    async fn turn(&mut self, limit: Duration) -> bool {
        for Saving { sid, pending } in self.board.savings.drain(..) {
            self.saved.spawn(async move { (sid, pending.await.unwrap_or(Err(StoreError::Closed))) });
        }
        let at = Instant::now() + limit;
        let at = self.board.poll_timeout().map_or(at, |timer| timer.min(at));
        tokio::select! {
            request = self.requests.recv() => match request {
                Some(request) => self.board.handle_request(request, Instant::now()),
                None => return false,
            },
            Some(event) = self.channels.trunks.recv() => self.board.handle_trunk(event, Instant::now()),
            Some(event) = self.channels.media.recv() => self.board.handle_media(event, Instant::now()),
            Some(Ok((sid, outcome))) = self.saved.join_next() => self.board.handle_saved(&sid, outcome, Instant::now()),
            () = tokio::time::sleep_until(at.into()) => self.board.handle_timeout(Instant::now()),
        }
        true
    }
}
