//! RIFF/WAVE: read whole from memory, written as it grows.
//!
//! Read: PCM with 16 bits, A-law and µ-law (formats 1, 6, 7, and 0xFFFE naming one of them), 1 or 2 channels, any of the
//! house's rates. Sizes in a header are only believed as far as there are bytes: recorders leave 0 or 0xFFFF_FFFF behind
//! while they write. Written: the classic 44-byte header and 16-bit PCM; after every flush the file is a whole one.

use std::io::{self, Seek, SeekFrom, Write};

use super::{g711, pcm};

const PCM: u16 = 1;
const ALAW: u16 = 6;
const ULAW: u16 = 7;
const EXTENSIBLE: u16 = 0xFFFE;
const HEADER: usize = 44;
/// What a 32-bit size can say, in whole frames of any layout.
const MOST_DATA: u32 = (u32::MAX - HEADER as u32) & !7;
const RATES: [u32; 5] = [8000, 12_000, 16_000, 24_000, 48_000];

/// A sound in memory, interleaved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wav {
    pub sample_rate: u32,
    pub channels: u8,
    pub samples: Vec<i16>,
}

/// Why bytes are no sound of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WavError {
    #[error("not a RIFF/WAVE file")]
    NotWave,
    #[error("the WAVE file has no {0:?} chunk before its end")]
    Missing(&'static str),
    #[error("the WAVE file has format {format} with {bits} bits: use 16-bit PCM, A-law or µ-law")]
    Format { format: u16, bits: u16 },
    #[error("the WAVE file has {0} channels: use 1 or 2")]
    Channels(u16),
    #[error("the WAVE file has {0} Hz: use 8000, 12000, 16000, 24000 or 48000")]
    Rate(u32),
}

struct Format {
    tag: u16,
    channels: u8,
    sample_rate: u32,
}

impl Wav {
    pub fn parse(bytes: &[u8]) -> Result<Self, WavError> {
        if bytes.len() < 12 || &bytes[..4] != b"RIFF" || &bytes[8..12] != b"WAVE" {
            return Err(WavError::NotWave);
        }
        let (mut rest, mut format) = (&bytes[12..], None);
        while let Some((head, body)) = rest.split_at_checked(8) {
            let size = u32_at(head, 4) as usize;
            let data = &body[..size.min(body.len())];
            match &head[..4] {
                b"fmt " => format = Some(parse_format(data)?),
                b"data" => {
                    let format = format.ok_or(WavError::Missing("fmt "))?;
                    return Ok(samples(&format, if size == 0 { body } else { data }));
                }
                _ => {}
            }
            // Chunks start at even places.
            rest = body.get(size.saturating_add(size & 1)..).unwrap_or(&[]);
        }
        Err(WavError::Missing(if format.is_none() { "fmt " } else { "data" }))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn parse_format(chunk: &[u8]) -> Result<Format, WavError> {
    if chunk.len() < 16 {
        return Err(WavError::Missing("fmt "));
    }
    let (mut tag, channels, sample_rate, bits) =
        (u16_at(chunk, 0), u16_at(chunk, 2), u32_at(chunk, 4), u16_at(chunk, 14));
    if tag == EXTENSIBLE && chunk.len() >= 26 {
        // The first two bytes of the sub-format are the tag that the long form stands for.
        tag = u16_at(chunk, 24);
    }
    if !matches!((tag, bits), (PCM, 16) | (ALAW | ULAW, 8)) {
        return Err(WavError::Format { format: tag, bits });
    }
    if !matches!(channels, 1 | 2) {
        return Err(WavError::Channels(channels));
    }
    if !RATES.contains(&sample_rate) {
        return Err(WavError::Rate(sample_rate));
    }
    Ok(Format { tag, channels: channels as u8, sample_rate })
}

fn samples(format: &Format, data: &[u8]) -> Wav {
    let mut samples = Vec::new();
    match format.tag {
        ALAW => samples.extend(data.iter().map(|code| g711::alaw_decode(*code))),
        ULAW => samples.extend(data.iter().map(|code| g711::ulaw_decode(*code))),
        _ => pcm::from_bytes(data, &mut samples),
    }
    samples.truncate(samples.len() / usize::from(format.channels) * usize::from(format.channels));
    Wav { sample_rate: format.sample_rate, channels: format.channels, samples }
}

/// The 44 bytes before `data_bytes` of 16-bit samples.
pub fn header(sample_rate: u32, channels: u8, data_bytes: u32) -> [u8; HEADER] {
    let frame_bytes = u16::from(channels) * 2;
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(b"RIFF");
    header[4..8].copy_from_slice(&(data_bytes + HEADER as u32 - 8).to_le_bytes());
    header[8..16].copy_from_slice(b"WAVEfmt ");
    header[16..20].copy_from_slice(&16_u32.to_le_bytes());
    header[20..22].copy_from_slice(&PCM.to_le_bytes());
    header[22..24].copy_from_slice(&u16::from(channels).to_le_bytes());
    header[24..28].copy_from_slice(&sample_rate.to_le_bytes());
    header[28..32].copy_from_slice(&(sample_rate * u32::from(frame_bytes)).to_le_bytes());
    header[32..34].copy_from_slice(&frame_bytes.to_le_bytes());
    header[34..36].copy_from_slice(&16_u16.to_le_bytes());
    header[36..40].copy_from_slice(b"data");
    header[40..].copy_from_slice(&data_bytes.to_le_bytes());
    header
}

/// A recording that grows. Samples are kept in memory until [`Writer::flush`]; what can't be written is dropped and counted.
pub struct Writer<W: Write + Seek> {
    out: W,
    sample_rate: u32,
    channels: u8,
    pending: Vec<u8>,
    written: u32,
    dropped: u64,
}

impl<W: Write + Seek> Writer<W> {
    /// Writes the header of an empty recording.
    pub fn new(mut out: W, sample_rate: u32, channels: u8) -> io::Result<Self> {
        out.write_all(&header(sample_rate, channels, 0))?;
        Ok(Self { out, sample_rate, channels, pending: Vec::new(), written: 0, dropped: 0 })
    }

    /// Keeps interleaved samples for the next flush.
    pub fn push(&mut self, samples: &[i16]) {
        pcm::to_bytes(samples, &mut self.pending);
    }

    /// Bytes that wait for a flush.
    pub fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// Samples that were lost to errors or to the 4 GiB that the format can say.
    pub fn dropped_samples(&self) -> u64 {
        self.dropped
    }

    /// Writes what is kept, then the header that counts it: a reader between the two sees the shorter recording. Four system
    /// calls at most. After an error the kept samples are dropped, counted, and the recording stays as it was.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let result = self.append();
        if result.is_err() {
            self.dropped += self.pending.len() as u64 / 2;
        }
        self.pending.clear();
        result
    }

    fn append(&mut self) -> io::Result<()> {
        let written = u32::try_from(self.pending.len()).ok().and_then(|more| self.written.checked_add(more));
        let written = written.filter(|written| *written <= MOST_DATA).ok_or(io::ErrorKind::FileTooLarge)?;
        self.out.seek(SeekFrom::Start(HEADER as u64 + u64::from(self.written)))?;
        self.out.write_all(&self.pending)?;
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header(self.sample_rate, self.channels, written))?;
        self.written = written;
        Ok(())
    }

    /// Flushes and gives the file back.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        self.out.flush()?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn wave(chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
        let mut bytes = b"RIFF\0\0\0\0WAVE".to_vec();
        for (id, body) in chunks {
            bytes.extend_from_slice(*id);
            bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
            bytes.extend_from_slice(body);
            bytes.resize(bytes.len().next_multiple_of(2), 0);
        }
        bytes
    }

    fn fmt(tag: u16, channels: u16, rate: u32, bits: u16) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(&tag.to_le_bytes());
        body.extend_from_slice(&channels.to_le_bytes());
        body.extend_from_slice(&rate.to_le_bytes());
        body.extend_from_slice(&(rate * u32::from(channels) * u32::from(bits / 8)).to_le_bytes());
        body.extend_from_slice(&(channels * bits / 8).to_le_bytes());
        body.extend_from_slice(&bits.to_le_bytes());
        body
    }

    #[test]
    fn header_variants() {
        let pcm = wave(&[(b"fmt ", fmt(1, 1, 8000, 16)), (b"data", vec![1, 0, 255, 255])]);
        assert_eq!(Wav::parse(&pcm).unwrap(), Wav { sample_rate: 8000, channels: 1, samples: vec![1, -1] });
        // 18-byte fmt, an odd LIST and a fact chunk before the data, A-law.
        let mut long = fmt(6, 1, 8000, 8);
        long.extend_from_slice(&[0, 0]);
        let alaw = wave(&[(b"fmt ", long), (b"LIST", vec![9; 5]), (b"fact", vec![0; 4]), (b"data", vec![0xD5, 0x55])]);
        assert_eq!(Wav::parse(&alaw).unwrap().samples, [8, -8]);
        // Extensible µ-law with a GUID.
        let mut extensible = fmt(0xFFFE, 2, 8000, 8);
        extensible.extend_from_slice(&[22, 0, 8, 0, 3, 0, 0, 0, 7, 0]);
        extensible.extend_from_slice(&[0, 0, 0, 0, 16, 0, 128, 0, 0, 170, 0, 56, 155, 113]);
        let ulaw = wave(&[(b"fmt ", extensible), (b"data", vec![0xFF, 0x00, 0x80])]);
        assert_eq!(Wav::parse(&ulaw).unwrap(), Wav { sample_rate: 8000, channels: 2, samples: vec![0, -32_124] });
    }

    #[test]
    fn sizes_are_believed_as_far_as_there_are_bytes() {
        let mut bytes = wave(&[(b"fmt ", fmt(1, 1, 16_000, 16)), (b"data", vec![7, 0, 8, 0])]);
        for size in [0_u32, u32::MAX, 5000] {
            bytes[40..44].copy_from_slice(&size.to_le_bytes());
            assert_eq!(Wav::parse(&bytes).unwrap().samples, [7, 8], "size {size}");
        }
    }

    #[test]
    fn what_is_not_ours_says_so() {
        let parse = |chunks: &[(&[u8; 4], Vec<u8>)]| Wav::parse(&wave(chunks)).unwrap_err();
        assert_eq!(Wav::parse(b"RIFX").unwrap_err(), WavError::NotWave);
        assert_eq!(parse(&[(b"data", vec![0, 0])]), WavError::Missing("fmt "));
        assert_eq!(parse(&[(b"fmt ", fmt(1, 1, 8000, 16))]), WavError::Missing("data"));
        assert_eq!(parse(&[(b"fmt ", fmt(1, 1, 44_100, 16))]), WavError::Rate(44_100));
        assert_eq!(parse(&[(b"fmt ", fmt(3, 1, 48_000, 32))]), WavError::Format { format: 3, bits: 32 });
        assert_eq!(parse(&[(b"fmt ", fmt(1, 6, 48_000, 16))]), WavError::Channels(6));
    }

    #[test]
    fn a_recording_is_whole_after_every_flush() {
        let mut writer = Writer::new(Cursor::new(Vec::new()), 16_000, 1).unwrap();
        for round in 1..=3 {
            writer.push(&[round; 500]);
            writer.flush().unwrap();
            let wav = Wav::parse(writer.out.get_ref()).unwrap();
            assert_eq!((wav.sample_rate, wav.samples.len()), (16_000, 500 * round as usize));
        }
        writer.push(&[4; 10]);
        assert_eq!(writer.pending_bytes(), 20);
        let bytes = writer.finish().unwrap().into_inner();
        let wav = Wav::parse(&bytes).unwrap();
        assert_eq!((wav.samples.len(), wav.samples[1509]), (1510, 4));
        assert_eq!(u32_at(&bytes, 4) as usize, bytes.len() - 8);
    }

    #[test]
    fn a_full_disk_loses_counted_samples_only() {
        let mut space = [0; 144];
        let mut writer = Writer::new(Cursor::new(&mut space[..]), 8000, 1).unwrap();
        writer.push(&[5; 50]);
        writer.flush().unwrap();
        writer.push(&[6; 50]);
        assert!(writer.flush().is_err());
        assert_eq!((writer.dropped_samples(), writer.pending_bytes()), (50, 0));
        drop(writer);
        assert_eq!(Wav::parse(&space).unwrap().samples, [5; 50]);
    }

    #[test]
    fn any_bytes_are_an_answer() {
        let whole = wave(&[(b"fmt ", fmt(1, 2, 48_000, 16)), (b"LIST", vec![1; 7]), (b"data", vec![3; 40])]);
        let mut seed = 88_172_645_463_325_252_u64;
        for _ in 0..20_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let mut bytes = whole.clone();
            for shift in [0, 16, 32] {
                let at = (seed >> shift) as usize % bytes.len();
                bytes[at] = (seed >> (shift + 8)) as u8;
            }
            bytes.truncate((seed >> 48) as usize % (bytes.len() + 1));
            let _ = Wav::parse(&bytes);
        }
    }
}
