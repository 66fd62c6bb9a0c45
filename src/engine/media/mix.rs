//! One frame out of all that is said to a leg in one tick.

use super::rendition::Incoming;
use crate::audio::{Encoder, Frame, Target, pcm};

/// Passes a single speaker's frame through; decodes, adds and encodes when several speak.
#[derive(Default)]
pub(super) struct Mixer {
    encoder: Option<Encoder>,
    sum: Vec<i16>,
    other: Vec<i16>,
}

impl Mixer {
    /// The tick's frame for this listener; one frame of each rendition that has one is used up.
    pub(super) fn mix<'a>(&mut self, renditions: impl Iterator<Item = &'a mut Incoming>, to: Target) -> Option<Frame> {
        let params = to.params;
        let mut first: Option<(&mut Incoming, Frame)> = None;
        let mut several = false;
        for rendition in renditions {
            let Some(frame) = rendition.take(to) else { continue };
            match &mut first {
                None => first = Some((rendition, frame)),
                Some((speaker, spoken)) => {
                    if !several {
                        self.sum.clear();
                        // A frame that can't be decoded is silence in the mix.
                        let _ = speaker.decode(spoken, params, &mut self.sum);
                        several = true;
                    }
                    self.other.clear();
                    let _ = rendition.decode(&frame, params, &mut self.other);
                    self.add();
                }
            }
        }
        let (_, frame) = first?;
        if several { Some(self.encode(to).unwrap_or(frame)) } else { Some(frame) }
    }

    /// See [`Encoder::expect_loss`].
    pub(super) fn expect_loss(&mut self, percent: u8) {
        if let Some(encoder) = &mut self.encoder {
            encoder.expect_loss(percent);
        }
    }

    fn add(&mut self) {
        if self.sum.len() < self.other.len() {
            self.sum.resize(self.other.len(), 0);
        }
        let both = self.other.len();
        pcm::mix(&mut self.sum[..both], &self.other);
    }

    fn encode(&mut self, to: Target) -> Option<Frame> {
        if self.encoder.is_none() {
            self.encoder = Encoder::new(to).ok();
        }
        let encoder = self.encoder.as_mut()?;
        self.sum.resize(encoder.frame_samples(), 0);
        encoder.encode(&self.sum).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{Codec, Limits, Params, opus};
    use crate::tracks::TrackId;

    fn pcm16() -> Params {
        Params::new(Codec::Pcm16, Some(8000), 1, 20).unwrap()
    }

    fn speaking(level: i16, frames: usize) -> Incoming {
        let mut rendition = Incoming::new(TrackId(1), pcm16());
        let frame: Vec<u8> = (0..160).flat_map(|_| level.to_le_bytes()).collect();
        (0..frames).for_each(|_| assert!(rendition.insert(frame.clone().into())));
        rendition
    }

    fn level(frame: &Frame) -> i16 {
        i16::from_le_bytes([frame[100], frame[101]])
    }

    #[test]
    fn one_speaker_passes_through_and_several_are_added() {
        let mut renditions = [speaking(1000, 2), speaking(-300, 1), speaking(20_000, 0)];
        let mut mixer = Mixer::default();
        let mut tick = || mixer.mix(renditions.iter_mut(), pcm16().into());
        assert_eq!(tick().as_ref().map(level), Some(700));
        assert_eq!(tick().as_ref().map(level), Some(1000));
        assert_eq!(tick(), None);
        assert!(mixer.encoder.is_some());
    }

    #[test]
    fn a_mix_repeats_what_may_be_lost() {
        let (mut renditions, mut mixer) = ([speaking(3000, 0), speaking(0, 0)], Mixer::default());
        // What never changes is no speech.
        let hz = |n: usize| [250.0, 700.0, 1300.0][n / 160 % 3];
        let voice = |n: usize| (5000.0 * (n as f64 * hz(n) * std::f64::consts::TAU / 8000.0).sin()) as i16;
        let mut repeated = |limits: Limits, mixer: &mut Mixer| {
            let mut said = 0..100 * 160;
            let mixed = (0..100).map(|_| {
                let frame: Vec<u8> = said.by_ref().take(160).flat_map(|n| voice(n).to_le_bytes()).collect();
                renditions.iter_mut().for_each(|rendition| assert!(rendition.insert(frame.clone().into())));
                mixer.mix(renditions.iter_mut(), Target { params: Params::CALL, limits }).unwrap()
            });
            mixed.filter(|frame| opus::repeats(frame)).count()
        };
        assert_eq!(repeated(Limits::default(), &mut mixer), 0);
        mixer.expect_loss(10);
        assert!(repeated(Limits { loss: 10, ..Limits::default() }, &mut mixer) > 80);
    }

    #[test]
    fn a_sum_beyond_the_range_is_its_edge() {
        let mut renditions = [speaking(30_000, 1), speaking(30_000, 1), speaking(-1000, 1)];
        let mixed = Mixer::default().mix(renditions.iter_mut(), pcm16().into()).unwrap();
        assert_eq!(level(&mixed), i16::MAX - 1000);
    }
}
