//! Frames as bytes of one long stream per channel, which is what a subgroup of many objects is under MoQT.

use std::collections::HashMap;

use bytes::Bytes;
use quinn_proto::{Connection, Dir, StreamEvent, StreamId};

use crate::load::Heard;

pub(super) struct Streams {
    /// By channel, opened with its first frame.
    ours: Vec<Option<StreamId>>,
    /// Frames of which a part has come, by link and stream.
    partial: HashMap<(usize, StreamId), Vec<u8>>,
}

impl Streams {
    pub(super) fn new(channels: usize) -> Self {
        Self { ours: vec![None; channels], partial: HashMap::new() }
    }

    pub(super) fn write(&mut self, channel: usize, connection: &mut Connection, frame: Bytes) {
        let Some(id) = self.ours[channel].or_else(|| connection.streams().open(Dir::Uni)) else { return };
        self.ours[channel] = Some(id);
        // What flow control holds back is a frame that is not heard; at this rate none is.
        let _ = connection.send_stream(id).write_chunks(&mut [frame]);
    }

    pub(super) fn handle(&mut self, link: usize, connection: &mut Connection, event: &StreamEvent, heard: &mut Heard) {
        match event {
            StreamEvent::Opened { dir: Dir::Uni } => {
                while let Some(id) = connection.streams().accept(Dir::Uni) {
                    self.read(link, connection, id, heard);
                }
            }
            StreamEvent::Readable { id } => self.read(link, connection, *id, heard),
            _ => {}
        }
    }

    fn read(&mut self, link: usize, connection: &mut Connection, id: StreamId, heard: &mut Heard) {
        let mut stream = connection.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return };
        let partial = self.partial.entry((link, id)).or_default();
        while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
            heard.chunk(partial, &chunk.bytes);
        }
        // Window updates leave with the link's next packet, which this turn writes.
        let _ = chunks.finalize();
    }
}
