//! What a frame costs in `src/audio/`, and a packet in a leg: CPU time and allocations, beside bare libopus and bare sockets. One core, best of five passes over
//! recorded speech (`SPEECH`, Debian's `asterisk-core-sounds-en-wav`), as `docs/performance.md` tells.
//!
//! ```text
//! cargo bench --bench audio
//! ```
#![allow(unsafe_code)] // libopus is called bare for comparison, with buffers of our own.

mod rtp;
#[path = "../support/mod.rs"]
mod support;

use audiopus::ffi;
use clutchcall::audio::{Codec, Decoder, Encoder, Frame, Params, Transcoder, resample::Resampler, wav::Wav};
use std::hint::black_box;

#[global_allocator]
static ALLOCATOR: support::alloc::Counting = support::alloc::Counting(std::alloc::System);

/// Frames per pass: 30 s.
const FRAMES: usize = 1500;
const PASSES: usize = 5;

fn main() {
    let folder = std::env::var("SPEECH").unwrap_or_else(|_| "/usr/share/asterisk/sounds/en_US_f_Allison".to_owned());
    let path = format!("{folder}/demo-instruct.wav");
    let Some(wav) = std::fs::read(&path).ok().and_then(|bytes| Wav::parse(&bytes).ok()) else {
        return eprintln!("no speech at {path}: install asterisk-core-sounds-en-wav, or set SPEECH");
    };
    println!("{}\n| what | µs per 20 ms | allocations per frame |\n|---|---|---|", clutchcall::audio::opus::version());
    for rate in [8000, 16_000, 48_000] {
        opus(rate, &at(&wav.samples, rate));
    }
    for (from, to) in
        [(8000, 16_000), (16_000, 8000), (8000, 48_000), (48_000, 8000), (16_000, 48_000), (16_000, 24_000)]
    {
        let samples = at(&wav.samples, from);
        let (mut resampler, mut out) =
            (Resampler::new(from, to, 1).expect("the rates differ"), Vec::with_capacity(2000));
        measure(&format!("resample {from} → {to}"), || {
            for chunk in samples.chunks_exact(from as usize / 50).take(FRAMES) {
                out.clear();
                resampler.process(chunk, &mut out);
            }
        });
    }
    transcoders(&wav.samples);
    rtp::packets_of_a_phone(&wav.samples);
}

fn at(samples: &[i16], rate: u32) -> Vec<i16> {
    let mut out = Vec::new();
    match Resampler::new(8000, rate, 1) {
        Some(mut resampler) => resampler.process(samples, &mut out),
        None => out.extend_from_slice(samples),
    }
    out
}

fn measure(what: &str, mut pass: impl FnMut()) {
    pass();
    let (mut best_us, mut allocations) = (f64::MAX, 0_u64);
    for _ in 0..PASSES {
        let before = support::process::usage();
        allocations = support::alloc::during(&mut pass).calls;
        let after = support::process::usage();
        best_us = best_us.min((after.user_us + after.system_us - before.user_us - before.system_us) as f64);
    }
    let frames = FRAMES as f64;
    println!("| {what} | {:.2} | {:.2} |", best_us / frames, allocations as f64 / frames);
}

fn opus(rate: u32, samples: &[i16]) {
    let size = rate as usize / 50;
    let chunks: Vec<&[i16]> = samples.chunks_exact(size).take(FRAMES).collect();
    let mut encoder = Encoder::at(Params::CALL, rate).expect("Opus has this rate");
    let mut packets: Vec<Frame> = Vec::with_capacity(FRAMES);
    measure(&format!("encode Opus from {rate}"), || {
        packets.clear();
        packets.extend(chunks.iter().map(|chunk| encoder.encode(chunk).expect("a whole frame")));
    });
    // As ours: decisions 0050 and 0225.
    let bitrate = if rate > 16_000 { 32_000 } else { 24_000 };
    let complexity = if rate > 8000 { 5 } else { 1 };
    // SAFETY: the arguments are libopus's own constants; buffers are as long as told.
    unsafe {
        let mut error = 0;
        let bare = ffi::opus_encoder_create(rate as i32, 1, ffi::OPUS_APPLICATION_VOIP, &mut error);
        ffi::opus_encoder_ctl(bare, ffi::OPUS_SET_BITRATE_REQUEST, bitrate);
        ffi::opus_encoder_ctl(bare, ffi::OPUS_SET_COMPLEXITY_REQUEST, complexity);
        ffi::opus_encoder_ctl(bare, ffi::OPUS_SET_SIGNAL_REQUEST, ffi::OPUS_SIGNAL_VOICE);
        let mut packet = [0; 1500];
        measure(&format!("bare `opus_encode` from {rate}"), || {
            for chunk in &chunks {
                ffi::opus_encode(bare, chunk.as_ptr(), size as i32, packet.as_mut_ptr(), 1500);
            }
        });
        ffi::opus_encoder_destroy(bare);
        let bare = ffi::opus_decoder_create(rate as i32, 1, &mut error);
        let mut out = [0; 5760];
        measure(&format!("bare `opus_decode` at {rate}"), || {
            for packet in &packets {
                ffi::opus_decode(bare, packet.as_ptr(), packet.len() as i32, out.as_mut_ptr(), 5760, 0);
            }
        });
        ffi::opus_decoder_destroy(bare);
    }
    let mut decoder = Decoder::at(Params::CALL, rate, 1).expect("Opus has this rate");
    let mut out = Vec::with_capacity(6000);
    measure(&format!("decode Opus at {rate}"), || {
        for packet in &packets {
            out.clear();
            decoder.decode(Some(packet), &mut out).expect("our own packet");
        }
    });
}

fn transcoders(speech: &[i16]) {
    let params = |codec, rate| Params::new(codec, Some(rate), 1, 20).expect("parameters of ours");
    let (ulaw, alaw) = (params(Codec::G711Ulaw, 8000), params(Codec::G711Alaw, 8000));
    let (pcm16, pcm48) = (params(Codec::Pcm16, 16_000), params(Codec::Pcm16, 48_000));
    let through = |from: Params, to: Params, frames: &[Frame]| {
        let mut transcoder = Transcoder::new(from, to).expect("parameters of ours");
        let mut out = Vec::with_capacity(FRAMES);
        frames.iter().for_each(|frame| transcoder.push(Some(frame), |frame| out.push(frame)));
        out
    };
    let mut encoder = Encoder::new(ulaw).expect("parameters of ours");
    let coded: Vec<Frame> =
        speech.chunks_exact(160).take(FRAMES).map(|chunk| encoder.encode(chunk).expect("a whole frame")).collect();
    for (from, to) in [
        (ulaw, alaw),
        (ulaw, pcm16),
        (ulaw, pcm48),
        (ulaw, Params::CALL),
        (Params::CALL, ulaw),
        (Params::CALL, pcm16),
        (Params::CALL, pcm48),
        (pcm16, Params::CALL),
        (pcm48, Params::CALL),
        (Params::CALL, params(Codec::Opus, 16_000)),
    ] {
        let frames = through(ulaw, from, &coded);
        let mut transcoder = Transcoder::new(from, to).expect("parameters of ours");
        let name = |params: Params| format!("{} {}", params.codec.as_str(), params.sample_rate);
        measure(&format!("transcode {} → {}", name(from), name(to)), || {
            for frame in &frames {
                transcoder.push(Some(frame), |frame| {
                    black_box(frame);
                });
            }
        });
    }
}
