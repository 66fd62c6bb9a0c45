//! What the phone heard, kept as a WAV file that is whole at any time, and told in numbers at the end.
//!
//! Silence before the first frame is left out. From then on every tick is 20 ms of recording: the frame that came, or in a
//! gap what the decoder makes of it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::audio::wav::Writer;
use crate::audio::{CodecError, Decoder, Frame, Params};

/// Gaps in a row that the decoder fills before it is silence.
const CONCEALED: u32 = 5;
/// Arrivals that a report lists: 100 s.
const LOGGED: usize = 5000;

/// A call as its phone saw it; JSON in `<sid>.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Frames it sent, and how many of them were its clip's.
    pub frames_said: u64,
    pub clip_frames_said: u64,
    pub frames_heard: u64,
    /// Ticks without a frame between the first and the last one heard, and after the last.
    pub gaps: u64,
    pub ticks_after_last: u64,
    /// Frames heard that could not be decoded.
    pub malformed: u64,
    pub recorded_samples: u64,
    /// Samples that the disk refused.
    pub lost_samples: u64,
    /// When frames were heard, in µs since the first; the first 5000.
    pub heard_at_us: Vec<u64>,
}

/// One recording. Dropping it completes the files.
pub(super) struct Recorder {
    decoder: Decoder,
    writer: Option<Writer<File>>,
    report_path: PathBuf,
    flush_bytes: usize,
    first: Option<Instant>,
    /// Ticks without a frame since the last one.
    missing: u32,
    samples: Vec<i16>,
    tick_samples: usize,
    pub(super) report: Report,
}

impl Recorder {
    /// `wav` and `report` are the paths of its files; the first is opened here.
    pub(super) fn create(wav: &Path, report: PathBuf, sample_rate: u32) -> Result<Self, RecorderError> {
        let params = Params::CALL;
        Ok(Self {
            decoder: Decoder::at(params, sample_rate, 1)?,
            writer: Some(Writer::new(File::create(wav)?, sample_rate, 1)?),
            report_path: report,
            flush_bytes: sample_rate as usize * 2,
            first: None,
            missing: 0,
            samples: Vec::new(),
            tick_samples: sample_rate as usize * usize::from(params.frame_ms) / 1000,
            report: Report::default(),
        })
    }

    /// One tick.
    pub(super) fn hear(&mut self, frame: Option<&Frame>, now: Instant) {
        self.samples.clear();
        match (frame, self.first) {
            (None, None) => return,
            (None, Some(_)) => self.gap(),
            (Some(frame), first) => {
                let first = *self.first.insert(first.unwrap_or(now));
                self.frame(frame, now.saturating_duration_since(first).as_micros() as u64);
            }
        }
        if let Some(writer) = &mut self.writer {
            writer.push(&self.samples);
            self.report.recorded_samples += self.samples.len() as u64;
            if writer.pending_bytes() >= self.flush_bytes {
                // Counted in the writer; the next second may find room.
                let _ = writer.flush();
            }
        }
    }

    fn frame(&mut self, frame: &Frame, at_us: u64) {
        let report = &mut self.report;
        report.frames_heard += 1;
        report.gaps += u64::from(std::mem::take(&mut self.missing));
        if report.heard_at_us.len() < LOGGED {
            report.heard_at_us.push(at_us);
        }
        if self.decoder.decode(Some(frame), &mut self.samples).is_err() {
            report.malformed += 1;
            self.conceal();
        }
    }

    fn gap(&mut self) {
        self.missing = self.missing.saturating_add(1);
        if self.missing <= CONCEALED {
            self.conceal();
        }
        self.samples.resize(self.tick_samples, 0);
    }

    fn conceal(&mut self) {
        if self.decoder.decode(None, &mut self.samples).is_err() {
            self.samples.resize(self.tick_samples, 0);
        }
    }

    /// The report is renamed into its place: who sees it sees all of it, and a complete recording.
    fn complete(&mut self) -> io::Result<()> {
        if let Some(mut writer) = self.writer.take() {
            let flushed = writer.flush();
            self.report.lost_samples = writer.dropped_samples();
            self.report.recorded_samples -= self.report.lost_samples;
            flushed?;
        }
        self.report.ticks_after_last = u64::from(self.missing);
        let unfinished = self.report_path.with_extension("json.part");
        fs::write(&unfinished, serde_json::to_vec(&self.report)?)?;
        fs::rename(&unfinished, &self.report_path)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Err(error) = self.complete() {
            tracing::warn!(path = %self.report_path.display(), %error, "a phone's recording is not complete");
        }
    }
}

/// Why a call is not recorded.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecorderError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Codec(#[from] CodecError),
}
