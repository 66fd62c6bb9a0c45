//! What the phone heard, kept as a WAV file that is whole at any time, and told in numbers at the end.
//!
//! Silence before the first frame is left out. From then on every frame time of the far end is 20 ms of recording: the frame that was
//! spoken at that time, or in a gap what the decoder makes of it. A gap is known when the next frame comes, or when none has come for
//! [`PATIENCE`].

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::PhoneConfig;
use crate::audio::wav::Writer;
use crate::audio::{CodecError, Decoder, Frame, Params};

/// Gaps in a row that the decoder fills before it is silence.
const CONCEALED: u32 = 5;
/// Calls that may have the same name in one folder.
const MOST_OF_A_NAME: u32 = 1000;
/// Frames that a report lists: 100 s.
const LOGGED: usize = 5000;
/// A frame that comes so long after its time is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(20);

/// A call as its phone saw it; JSON in `<sid>.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Frames it sent, and how many of them were its clip's.
    pub frames_said: u64,
    pub clip_frames_said: u64,
    pub frames_heard: u64,
    /// Frame times without a frame between the first and the last one heard, and after the last.
    pub gaps: u64,
    pub ticks_after_last: u64,
    /// Frames heard that could not be decoded.
    pub malformed: u64,
    pub recorded_samples: u64,
    /// Samples that the disk refused.
    pub lost_samples: u64,
    /// When frames were spoken, in µs since the first; the first 5000.
    pub heard_at_us: Vec<u64>,
    /// Keys that were pressed.
    #[serde(default)]
    pub keys: String,
}

/// One recording. Dropping it completes the files.
pub(super) struct Recorder {
    decoder: Decoder,
    writer: Option<Writer<File>>,
    report_path: PathBuf,
    flush_bytes: usize,
    sample_rate: u32,
    /// When the first frame was spoken, and the last one that is recorded, or what stands for it.
    times: Option<(Instant, Instant)>,
    /// Frame times without a frame since the last one.
    missing: u32,
    samples: Vec<i16>,
    tick_samples: usize,
    pub(super) report: Report,
}

impl Recorder {
    /// Of a call of this name. Files that are there are another call's: then a number stands behind the name. `None`: none is wanted.
    pub(super) fn begin(config: &PhoneConfig, name: &str, params: Params) -> Result<Option<Self>, RecorderError> {
        for nth in 1..=MOST_OF_A_NAME {
            // A Call-ID is ASCII by now.
            let name = if nth == 1 { name.to_owned() } else { format!("{:.90}-{nth}", name) };
            let (Some(wav), Some(report)) = (config.recording(&name), config.report(&name)) else { return Ok(None) };
            match Self::create(&wav, report, config.record_rate, params) {
                Err(RecorderError::Io(error)) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(Some),
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists).into())
    }

    /// `wav` and `report` are the paths of its files; the first is made here. `params`: of the frames that it will be given.
    pub(super) fn create(wav: &Path, report: PathBuf, sample_rate: u32, params: Params) -> Result<Self, RecorderError> {
        Ok(Self {
            decoder: Decoder::at(params, sample_rate, 1)?,
            writer: Some(Writer::new(File::create_new(wav)?, sample_rate, 1)?),
            report_path: report,
            flush_bytes: sample_rate as usize * 2,
            sample_rate,
            times: None,
            missing: 0,
            samples: Vec::new(),
            tick_samples: sample_rate as usize * TICK.as_millis() as usize / 1000,
            report: Report::default(),
        })
    }

    /// Frames are of other parameters from now on.
    pub(super) fn retune(&mut self, params: Params) {
        match Decoder::at(params, self.sample_rate, 1) {
            Ok(decoder) => self.decoder = decoder,
            Err(error) => tracing::warn!(?params, %error, "a phone can't record this codec"),
        }
    }

    /// A frame that was spoken at this time.
    pub(super) fn hear(&mut self, frame: &Frame, at: Instant) {
        let (first, last) = self.times.unwrap_or((at, at));
        if self.times.is_some() {
            let steps = (at.saturating_duration_since(last) + TICK / 2).as_micros() / TICK.as_micros();
            (1..steps).for_each(|_| self.gap());
        }
        // A clock that jumped back records on from where it was.
        self.times = Some((first, at.max(last)));
        self.samples.clear();
        self.frame(frame, at.saturating_duration_since(first).as_micros() as u64);
        self.write();
    }

    /// It is now: what has not come long ago is a gap.
    pub(super) fn pass(&mut self, now: Instant) {
        self.fill(now.checked_sub(PATIENCE).unwrap_or(now));
    }

    /// Nothing follows.
    pub(super) fn end(&mut self, now: Instant) {
        self.fill(now);
    }

    fn fill(&mut self, until: Instant) {
        while let Some((first, last)) = self.times.filter(|(_, last)| *last + TICK <= until) {
            self.times = Some((first, last + TICK));
            self.gap();
        }
    }

    fn write(&mut self) {
        let Some(writer) = &mut self.writer else { return };
        writer.push(&self.samples);
        self.report.recorded_samples += self.samples.len() as u64;
        if writer.pending_bytes() >= self.flush_bytes {
            // Counted in the writer; the next second may find room.
            let _ = writer.flush();
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
        self.samples.clear();
        self.missing = self.missing.saturating_add(1);
        if self.missing <= CONCEALED {
            self.conceal();
        }
        self.samples.resize(self.tick_samples, 0);
        self.write();
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
