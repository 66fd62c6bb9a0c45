//! One rendition of one side of a call: published here ([`Outgoing`]) or taken here ([`Incoming`]).

use std::collections::VecDeque;
use std::time::Instant;

use crate::audio::{CodecError, Decoder, Frame, Params, Target, Transcoder};
use crate::tracks::TrackId;
use crate::tracks::lag::Lag;

/// Frames that an incoming rendition keeps from tick to tick: 200 ms of 20 ms frames.
pub(super) const KEPT_FRAMES: usize = 10;
/// Frames that it takes between two ticks: after a stall they all come at once, and the ticks that are made up use them.
const TAKEN_FRAMES: usize = 2 * KEPT_FRAMES;

/// Behind more lost frames than this the one before is not asked for.
const MOST_LOST: u64 = 6;
/// Stamps of a far end's clock, in whole microseconds.
const SLACK_US: u64 = 1000;

/// A rendition that the engine publishes, made only while somebody listens.
pub(super) struct Outgoing {
    pub(super) track: TrackId,
    pub(super) params: Params,
    pub(super) subscribers: usize,
    maker: Option<Maker>,
}

/// What turns the source's frames into this rendition's.
struct Maker {
    from: Params,
    transcoder: Transcoder,
    /// Stamp of the next frame made, and of the next source frame if none is missing.
    next_us: u64,
    expected_us: u64,
}

impl Outgoing {
    pub(super) fn new(track: TrackId, params: Params) -> Self {
        Self { track, params, subscribers: 0, maker: None }
    }

    pub(super) fn set_subscribers(&mut self, count: usize) {
        self.subscribers = count;
        if count == 0 {
            self.maker = None;
        }
    }

    /// One frame of the source; `write` gets each frame of this rendition that is complete by now, with its stamp. Equal
    /// parameters pass the frame through.
    pub(super) fn make(&mut self, from: Params, frame: &Frame, timestamp_us: u64, mut write: impl FnMut(u64, Frame)) {
        if self.subscribers == 0 {
            return;
        }
        if from == self.params {
            return write(timestamp_us, frame.clone());
        }
        let to = self.params;
        let maker = match self.maker.as_mut().filter(|maker| maker.goes_on(from, to, timestamp_us)) {
            Some(maker) => maker,
            None => match Maker::new(from, to, timestamp_us) {
                Ok(maker) => self.maker.insert(maker),
                Err(error) => return tracing::error!(?from, ?to, %error, "a rendition can't be made"),
            },
        };
        maker.push(frame, timestamp_us, to.frame_us(), write);
    }
}

impl Maker {
    fn new(from: Params, to: Params, timestamp_us: u64) -> Result<Self, CodecError> {
        let transcoder = Transcoder::new(from, to)?;
        Ok(Self { from, transcoder, next_us: timestamp_us, expected_us: timestamp_us })
    }

    /// Frames of other durations are cut from what came before, so behind a gap they begin afresh.
    fn goes_on(&self, from: Params, to: Params, timestamp_us: u64) -> bool {
        self.from == from && (from.frame_ms == to.frame_ms || self.expected_us == timestamp_us)
    }

    fn push(&mut self, frame: &Frame, timestamp_us: u64, step_us: u32, mut write: impl FnMut(u64, Frame)) {
        if timestamp_us != self.expected_us {
            self.next_us = timestamp_us;
            self.recover(frame, timestamp_us, &mut write);
        }
        self.expected_us = timestamp_us + u64::from(self.from.frame_us());
        let next_us = &mut self.next_us;
        self.transcoder.push(Some(frame), |frame| {
            write(*next_us, frame);
            *next_us += u64::from(step_us);
        });
    }
}

impl Maker {
    /// Right behind a short gap: the last frame of it, where this one repeats it. A longer one is a pause, and the frame before it is old.
    fn recover(&mut self, frame: &Frame, timestamp_us: u64, mut write: impl FnMut(u64, Frame)) {
        let (gap_us, one_us) = (timestamp_us.saturating_sub(self.expected_us), u64::from(self.from.frame_us()));
        if (one_us - SLACK_US..one_us * MOST_LOST).contains(&gap_us) {
            self.transcoder.recover(frame, |frame| write(timestamp_us - one_us, frame));
        }
    }
}

/// A rendition that somebody else publishes.
pub(super) struct Incoming {
    pub(super) track: TrackId,
    pub(super) params: Params,
    /// Somebody publishes it now.
    pub(super) live: bool,
    lag: Lag,
    fifo: VecDeque<Frame>,
    /// Frames to the listener's parameters, and those that are ready: at most one frame's worth.
    transcoder: Option<Transcoder>,
    ready: VecDeque<Frame>,
    decoder: Option<Decoder>,
}

impl Incoming {
    pub(super) fn new(track: TrackId, params: Params) -> Self {
        let fifo = VecDeque::with_capacity(TAKEN_FRAMES);
        Self {
            track,
            params,
            live: false,
            lag: Lag::default(),
            fifo,
            transcoder: None,
            ready: VecDeque::new(),
            decoder: None,
        }
    }

    /// `false`: a path that stalls, or did so right now, has held this frame up for too long.
    pub(super) fn is_fresh(&mut self, timestamp_us: u64, stalled: bool, now: Instant) -> bool {
        if stalled {
            self.lag.stalled(now);
        }
        self.lag.admit(timestamp_us, now)
    }

    /// `false`: the oldest frame made room.
    pub(super) fn insert(&mut self, frame: Frame) -> bool {
        let fits = self.fifo.len() < TAKEN_FRAMES;
        if !fits {
            self.fifo.pop_front();
        }
        self.fifo.push_back(frame);
        fits
    }

    /// After a tick: what is more than it keeps is late, the oldest first. Says how many those were.
    pub(super) fn trim(&mut self) -> usize {
        let late = self.fifo.len().saturating_sub(KEPT_FRAMES);
        self.fifo.drain(..late);
        late
    }

    /// The next frame for this listener.
    pub(super) fn take(&mut self, to: Target) -> Option<Frame> {
        if self.params == to.params {
            return self.fifo.pop_front();
        }
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            let frame = self.fifo.pop_front()?;
            if self.transcoder.is_none() {
                match Transcoder::new(self.params, to) {
                    Ok(transcoder) => self.transcoder = Some(transcoder),
                    Err(error) => {
                        tracing::error!(from = ?self.params, ?to, %error, "a rendition can't be heard");
                        return None;
                    }
                }
            }
            let ready = &mut self.ready;
            if let Some(transcoder) = &mut self.transcoder {
                transcoder.push(Some(&frame), |frame| ready.push_back(frame));
            }
        }
    }

    /// Appends the samples of a frame that [`Incoming::take`] gave.
    pub(super) fn decode(&mut self, frame: &Frame, params: Params, out: &mut Vec<i16>) -> Result<(), CodecError> {
        if self.decoder.is_none() {
            self.decoder = Some(Decoder::new(params)?);
        }
        match &mut self.decoder {
            Some(decoder) => decoder.decode(Some(frame), out),
            None => Ok(()),
        }
    }

    /// See [`Transcoder::expect_loss`].
    pub(super) fn expect_loss(&mut self, percent: u8) {
        if let Some(transcoder) = &mut self.transcoder {
            transcoder.expect_loss(percent);
        }
    }

    /// The listener is another one from now on.
    pub(super) fn retune(&mut self) {
        self.ready.clear();
        (self.transcoder, self.decoder) = (None, None);
    }

    pub(super) fn clear(&mut self) -> usize {
        self.ready.clear();
        let kept = self.fifo.len();
        self.fifo.clear();
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{Codec, Encoder, Limits};

    fn pcm(frame_ms: u32) -> Params {
        Params::new(Codec::Pcm16, Some(16_000), 1, frame_ms).unwrap()
    }

    fn frame(params: Params, fill: u8) -> Frame {
        vec![fill; params.frame_bytes().unwrap()].into()
    }

    fn heard(rendition: &mut Outgoing) {
        rendition.set_subscribers(1);
    }

    #[test]
    fn nothing_is_made_for_nobody_and_equal_parameters_pass_through() {
        let mut rendition = Outgoing::new(TrackId(1), pcm(20));
        rendition.make(pcm(20), &frame(pcm(20), 1), 0, |_, _| panic!("nobody listens"));
        heard(&mut rendition);
        let (source, mut made) = (frame(pcm(20), 1), Vec::new());
        rendition.make(pcm(20), &source, 40_000, |at, frame| made.push((at, frame)));
        assert_eq!(made, [(40_000, source.clone())]);
        assert_eq!(made[0].1.as_ptr(), source.as_ptr(), "not even copied");
    }

    #[test]
    fn frames_of_another_duration_keep_the_time() {
        for (to, per_source) in [(10, 2.0), (40, 0.5), (60, 1.0 / 3.0)] {
            let mut rendition = Outgoing::new(TrackId(1), pcm(to));
            heard(&mut rendition);
            let mut stamps = Vec::new();
            for i in 0..30 {
                let at = 1_000_000 + i * 20_000;
                rendition.make(pcm(20), &frame(pcm(20), 1), at, |at, made| {
                    assert_eq!(Some(made.len()), pcm(to).frame_bytes());
                    stamps.push(at);
                });
            }
            assert_eq!(stamps.len() as f64, 30.0 * per_source);
            assert_eq!(stamps[0], 1_000_000);
            assert!(stamps.windows(2).all(|pair| pair[1] - pair[0] == u64::from(to) * 1000));
        }
    }

    #[test]
    fn a_gap_in_the_source_is_a_gap_in_the_stamps() {
        let mut rendition = Outgoing::new(TrackId(1), pcm(40));
        heard(&mut rendition);
        let mut stamps = Vec::new();
        for at in [0, 20_000, 40_000, 100_000, 120_000] {
            rendition.make(pcm(20), &frame(pcm(20), 1), at, |at, _| stamps.push(at));
        }
        assert_eq!(stamps, [0, 100_000], "the half frame before the gap is nobody's");
    }

    /// RFC 6716 §2.1.7.
    #[test]
    fn a_hole_in_opus_is_filled_with_what_the_next_frame_repeats() {
        let to = pcm(20);
        let hz = |frame: usize| [250.0, 700.0, 1300.0][frame % 3];
        let sample = |n: usize| (9000.0 * (n as f64 * hz(n / 320) * std::f64::consts::TAU / 16_000.0).sin()) as i16;
        let frames = |loss| {
            let limits = Limits { loss, ..Limits::default() };
            let mut encoder = Encoder::at(Target { params: Params::CALL, limits }, 16_000).unwrap();
            let frame = |at: usize| (at * 320..(at + 1) * 320).map(sample).collect::<Vec<_>>();
            (0..61).map(|at| encoder.encode(&frame(at)).unwrap()).collect::<Vec<Frame>>()
        };
        let made = |frames: &[Frame], is_lost: &dyn Fn(usize) -> bool| {
            let (mut rendition, mut made) = (Outgoing::new(TrackId(1), to), Vec::new());
            heard(&mut rendition);
            for (at, frame) in frames.iter().enumerate().filter(|(at, _)| !is_lost(*at)) {
                rendition.make(Params::CALL, frame, at as u64 * 20_000, |at_us, frame| made.push((at_us, frame)));
            }
            made
        };
        let (whole, holed) = (made(&frames(20), &|_| false), made(&frames(20), &|at| at % 6 == 5));
        let stamps = |made: &[(u64, Frame)]| made.iter().map(|(at_us, _)| *at_us).collect::<Vec<_>>();
        assert_eq!(stamps(&holed), (0..61).map(|at| at * 20_000).collect::<Vec<_>>());
        let samples = |made: &[(u64, Frame)]| {
            let holes = made.iter().skip(5).step_by(6).flat_map(|(_, frame)| frame.to_vec());
            holes.collect::<Vec<_>>().chunks(2).map(|two| f64::from(i16::from_le_bytes([two[0], two[1]]))).collect()
        };
        let (right, found): (Vec<f64>, Vec<f64>) = (samples(&whole), samples(&holed));
        let power = right.iter().map(|sample| sample.powi(2)).sum::<f64>();
        let error = right.iter().zip(&found).map(|(one, other)| (one - other).powi(2)).sum::<f64>();
        assert!(error < power / 2.0, "{error:e} of {power:e}");
        // Nothing is made up where nothing is repeated, nor of two that are lost more than the last one, nor behind a pause.
        assert_eq!(stamps(&made(&frames(0), &|at| at == 9)).len(), 60);
        let two = stamps(&made(&frames(20), &|at| at == 8 || at == 9));
        assert_eq!(two, (0..61).filter(|at| *at != 8).map(|at| at * 20_000).collect::<Vec<_>>());
        assert_eq!(stamps(&made(&frames(20), &|at| (8..20).contains(&at))).len(), 61 - 12);
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut rendition = Incoming::new(TrackId(1), pcm(20));
        let taken = (0..23).filter(|n| rendition.insert(frame(pcm(20), *n))).count();
        assert_eq!(taken, TAKEN_FRAMES);
        assert_eq!(rendition.trim(), TAKEN_FRAMES - KEPT_FRAMES);
        let kept: Vec<u8> = (0..23).filter_map(|_| rendition.take(pcm(20).into())).map(|frame| frame[0]).collect();
        assert_eq!(kept, [13, 14, 15, 16, 17, 18, 19, 20, 21, 22]);
    }

    #[test]
    fn what_came_in_a_stall_is_there_for_the_ticks_that_are_made_up() {
        let mut rendition = Incoming::new(TrackId(1), pcm(20));
        // Three were there, and 160 ms of them come at once.
        (0..11).for_each(|n| assert!(rendition.insert(frame(pcm(20), n))));
        for n in 0..8 {
            assert_eq!(rendition.take(pcm(20).into()).map(|frame| frame[0]), Some(n));
            assert_eq!(rendition.trim(), 0);
        }
    }

    #[test]
    fn a_listener_of_another_duration_gets_his_own_frames() {
        let mut rendition = Incoming::new(TrackId(1), pcm(60));
        rendition.insert(frame(pcm(60), 1));
        let taken: Vec<usize> =
            (0..4).filter_map(|_| rendition.take(pcm(20).into())).map(|frame| frame.len()).collect();
        assert_eq!(taken, [640, 640, 640]);
        let mut rendition = Incoming::new(TrackId(1), pcm(10));
        (0..3).for_each(|_| assert!(rendition.insert(frame(pcm(10), 1))));
        assert_eq!(rendition.take(pcm(20).into()).map(|frame| frame.len()), Some(640));
        assert_eq!(rendition.take(pcm(20).into()), None, "half a frame waits for its other half");
    }
}
