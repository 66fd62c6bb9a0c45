//! Opus packets put together and taken apart without a codec (RFC 6716 §3.2): no frame is changed, none is looked into.
//!
//! A [`Bundle`] belongs to whoever sends, and gives packets of the length that the far end wants: several of the call's in one, or one
//! in parts, if it was made of parts ([`Limits::halved`](super::Limits)). What can't be had that way goes as it is: one frame has no parts, frames
//! of different kinds (mode, bandwidth, length and channels: RFC 6716 §3.1) share no packet, and none is longer than networks carry.
//! So where an encoder changes its mind a packet is shorter than wanted, never longer.
//!
//! Padding, and whatever stands in it, does not go on. Nothing is allocated per packet once the buffers have grown.

use super::opus::duration_us;

/// RFC 6716 §3.2.5: 120 ms of 2.5 ms each.
const MOST_FRAMES: usize = 48;
/// RFC 6716 §3.2.1.
const MOST_FRAME_BYTES: usize = 1275;
/// Several frames of one packet: with all headers it goes through where IP carries its least (RFC 8200 §5: 1280).
const MOST_BYTES: usize = 1200;
/// The part of the first byte that says what frames are; the rest says how many there are.
const KIND: u8 = 0xfc;
/// Lengths from here on have a second byte (RFC 6716 §3.2.1).
const TWO_BYTES: usize = 252;
/// RFC 6716 §3.2.5: lengths stand in the packet; it ends in padding.
const VARIABLE: u8 = 0x80;
const PADDED: u8 = 0x40;

/// See the file's contract.
#[derive(Clone, Debug)]
pub struct Bundle {
    packet_ms: u8,
    constant: bool,
    /// What waits for the rest of its packet: frames of one kind, one behind the other, their lengths, and how long they are together.
    kind: u8,
    frames: Vec<u8>,
    lengths: Vec<usize>,
    ms: u32,
    /// The bytes that they came in, and one for each packet of them.
    taken: usize,
    /// Of the packet that has just come.
    fresh: Vec<usize>,
    packet: Vec<u8>,
}

impl Bundle {
    /// `constant`: packets that come in one length go in one length.
    pub fn new(packet_ms: u8, constant: bool) -> Self {
        let (kind, ms, taken) = Default::default();
        let (frames, packet) = (Vec::with_capacity(MOST_BYTES), Vec::with_capacity(MOST_BYTES));
        let (lengths, fresh) = (Vec::with_capacity(MOST_FRAMES), Vec::with_capacity(MOST_FRAMES));
        Self { packet_ms, constant, kind, frames, lengths, ms, taken, fresh, packet }
    }

    /// From the next packet on. What waits goes into it.
    pub fn set(&mut self, packet_ms: u8, constant: bool) {
        (self.packet_ms, self.constant) = (packet_ms, constant);
    }

    /// One packet of `ms`; `out` gets each that is complete by now, and how many ms it holds.
    pub fn push(&mut self, packet: &[u8], ms: u8, mut out: impl FnMut(&[u8], u32)) {
        let (ms, wanted) = (u32::from(ms), u32::from(self.packet_ms));
        if ms == wanted && self.ms == 0 {
            return out(packet, ms);
        }
        self.fresh.clear();
        let read = read(packet, &mut self.fresh).filter(|_| duration_us(packet) == Some(ms * 1000));
        let Some((kind, frames)) = read else {
            self.flush(&mut out);
            return out(packet, ms);
        };
        let fits = kind == self.kind
            && self.ms + ms <= wanted
            && self.frames.len() + frames.len() <= MOST_BYTES
            && self.lengths.len() + self.fresh.len() <= MOST_FRAMES;
        if !fits {
            self.flush(&mut out);
        }
        if wanted < ms {
            return self.part(packet, (kind, frames), ms, out);
        }
        self.add((kind, frames), packet.len(), ms);
        if self.ms >= wanted {
            self.flush(out);
        }
    }

    /// What waits goes as it is.
    pub fn flush(&mut self, mut out: impl FnMut(&[u8], u32)) {
        if self.ms > 0 {
            let length = if self.constant { self.taken } else { 0 };
            write(self.kind, (&self.lengths, &self.frames), length, &mut self.packet);
            out(&self.packet, self.ms);
            self.clear();
        }
    }

    /// Forgets what waits.
    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.lengths.clear();
        (self.ms, self.taken) = (0, 0);
    }

    /// One packet of an encoder's, behind those that wait, whatever they are: of another kind, they become frames that were lost, which
    /// a decoder conceals (RFC 6716 §3.2.1: length 0).
    pub(super) fn join(&mut self, packet: &[u8], ms: u8) {
        self.fresh.clear();
        let Some((kind, frames)) = read(packet, &mut self.fresh) else { return };
        if kind != self.kind {
            self.frames.clear();
            self.lengths.fill(0);
        }
        self.add((kind, frames), packet.len(), u32::from(ms));
    }

    fn add(&mut self, (kind, frames): (u8, &[u8]), length: usize, ms: u32) {
        self.kind = kind;
        self.frames.extend_from_slice(frames);
        self.lengths.append(&mut self.fresh);
        self.ms += ms;
        self.taken += length + 1;
    }

    /// The packet that has just come, in shorter ones.
    fn part(&mut self, packet: &[u8], (kind, frames): (u8, &[u8]), ms: u32, mut out: impl FnMut(&[u8], u32)) {
        let parts = (ms / u32::from(self.packet_ms.max(1))) as usize;
        if !self.fresh.len().is_multiple_of(parts) {
            return out(packet, ms);
        }
        let length = if self.constant { packet.len() / parts } else { 0 };
        let mut left = frames;
        for lengths in self.fresh.chunks_exact(self.fresh.len() / parts) {
            let (part, rest) = left.split_at(lengths.iter().sum());
            left = rest;
            write(kind, (lengths, part), length, &mut self.packet);
            out(&self.packet, ms / parts as u32);
        }
    }
}

pub(super) fn first_frame(packet: &[u8]) -> Option<&[u8]> {
    let mut lengths = Vec::new();
    let (_, frames) = read(packet, &mut lengths)?;
    frames.get(..*lengths.first()?)
}

/// The kind of a packet's frames, and they themselves, one behind the other; their lengths go into `lengths`. `None`: it is none.
fn read<'a>(packet: &'a [u8], lengths: &mut Vec<usize>) -> Option<(u8, &'a [u8])> {
    let (toc, rest) = packet.split_first()?;
    let mut frames = rest;
    match toc & !KIND {
        0 => lengths.push(rest.len()),
        1 => lengths.extend([rest.len() / 2; 2]),
        2 => {
            let first = length(&mut frames)?;
            lengths.extend([first, frames.len().checked_sub(first)?]);
        }
        _ => frames = read_many(rest, lengths)?,
    }
    let is_whole = lengths.iter().sum::<usize>() == frames.len();
    (is_whole && lengths.iter().all(|length| *length <= MOST_FRAME_BYTES)).then_some((toc & KIND, frames))
}

/// The frames of a packet, each by itself.
#[cfg(test)]
pub(super) fn frames(packet: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut lengths = Vec::new();
    let (_, mut frames) = read(packet, &mut lengths)?;
    let take = |length: usize| frames.split_off(..length).map(<[u8]>::to_vec);
    lengths.into_iter().map(take).collect()
}

/// RFC 6716 §3.2.5.
fn read_many<'a>(packet: &'a [u8], lengths: &mut Vec<usize>) -> Option<&'a [u8]> {
    let (head, mut frames) = packet.split_first()?;
    let count = usize::from(head & 0x3f);
    if !(1..=MOST_FRAMES).contains(&count) {
        return None;
    }
    let (mut padding, mut more) = (0, head & PADDED != 0);
    while more {
        let (length, rest) = frames.split_first()?;
        frames = rest;
        padding += usize::from(*length).min(254);
        more = *length == 255;
    }
    frames = frames.get(..frames.len().checked_sub(padding)?)?;
    if head & VARIABLE == 0 {
        lengths.extend(std::iter::repeat_n(frames.len() / count, count));
        return Some(frames);
    }
    let mut last = 0;
    for _ in 1..count {
        let length = length(&mut frames)?;
        last += length;
        lengths.push(length);
    }
    lengths.push(frames.len().checked_sub(last)?);
    Some(frames)
}

/// RFC 6716 §3.2.1.
fn length(bytes: &mut &[u8]) -> Option<usize> {
    let (first, rest) = bytes.split_first()?;
    let first = usize::from(*first);
    if first < TWO_BYTES {
        *bytes = rest;
        return Some(first);
    }
    let (second, rest) = rest.split_first()?;
    *bytes = rest;
    Some(first + 4 * usize::from(*second))
}

fn put_length(length: usize, out: &mut Vec<u8>) {
    if length < TWO_BYTES {
        return out.push(length as u8);
    }
    let first = TWO_BYTES + (length & 3);
    out.extend([first as u8, ((length - first) / 4) as u8]);
}

/// One packet of these frames, in the shortest form, or in one of `least` bytes.
fn write(kind: u8, (lengths, frames): (&[usize], &[u8]), least: usize, out: &mut Vec<u8>) {
    out.clear();
    let is_equal = lengths.iter().all(|length| *length == lengths[0]);
    match *lengths {
        [_] => out.push(kind),
        [first, second] if first == second => out.push(kind | 1),
        [first, _] => {
            out.push(kind | 2);
            put_length(first, out);
        }
        _ => write_many(kind, (lengths, is_equal), 0, out),
    }
    if out.len() + frames.len() < least {
        // Only this form has padding. Its own head may be all that was missing.
        out.clear();
        write_many(kind, (lengths, is_equal), 0, out);
        let padding = least.saturating_sub(out.len() + frames.len());
        out.clear();
        write_many(kind, (lengths, is_equal), padding, out);
    }
    out.extend_from_slice(frames);
    out.resize(out.len().max(least), 0);
}

/// `padding`: all that it costs, the bytes that say how much it is included.
fn write_many(kind: u8, (lengths, is_equal): (&[usize], bool), padding: usize, out: &mut Vec<u8>) {
    let (variable, padded) = (if is_equal { 0 } else { VARIABLE }, if padding > 0 { PADDED } else { 0 });
    out.extend([kind | 3, lengths.len() as u8 | variable | padded]);
    if let Some(left) = padding.checked_sub(1) {
        out.extend(std::iter::repeat_n(255, left / 255));
        out.push((left % 255) as u8);
    }
    if !is_equal {
        lengths[..lengths.len() - 1].iter().for_each(|length| put_length(*length, out));
    }
}
