//! Streams through decoders, encoders and transcoders; recorded speech where Debian's prompts are installed.

use bytes::Bytes;

use super::wav::Wav;
use super::{Codec, CodecError, Decoder, Encoder, Frame, Limits, Params, Target, Transcoder, g711, opus};

fn params(codec: Codec, rate: u32, channels: u32, ms: u32) -> Params {
    Params::new(codec, Some(rate), channels, ms).unwrap()
}

/// 8 kHz speech of `asterisk-core-sounds-en-wav`, or a voice of three moving tones.
fn speech() -> Vec<i16> {
    let path = std::env::var("SPEECH").unwrap_or_else(|_| "/usr/share/asterisk/sounds/en_US_f_Allison".to_owned());
    if let Ok(bytes) = std::fs::read(format!("{path}/demo-congrats.wav")) {
        let wav = Wav::parse(&bytes).expect("Debian's prompts are 16-bit PCM");
        assert_eq!((wav.sample_rate, wav.channels), (8000, 1));
        return wav.samples.into_iter().take(8000 * 12).collect();
    }
    let voice = |n: usize| {
        let t = n as f64 / 8000.0;
        let pitch = 130.0 + 25.0 * (t * 3.1).sin();
        let tones: f64 = [1.0, 4.0, 11.0].iter().map(|k| (t * pitch * k * std::f64::consts::TAU).sin() / k).sum();
        (6000.0 * tones * (t * 4.0 * std::f64::consts::PI).sin().powi(2)) as i16
    };
    (0..8000 * 12).map(voice).collect()
}

fn frames(samples: &[i16], encoder: &mut Encoder) -> Vec<Frame> {
    let size = encoder.frame_samples();
    samples.chunks_exact(size).map(|chunk| encoder.encode(chunk).unwrap()).collect()
}

fn push_all(transcoder: &mut Transcoder, input: &[Frame]) -> Vec<Frame> {
    let mut out = Vec::new();
    input.iter().for_each(|frame| transcoder.push(Some(frame), |frame| out.push(frame)));
    out
}

/// Correlation at the best lag, and that lag.
fn likeness(a: &[i16], b: &[i16], most_lag: usize) -> (f64, usize) {
    let at = |lag: usize| {
        let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
        for (x, y) in a.iter().zip(&b[lag..]) {
            let (x, y) = (f64::from(*x), f64::from(*y));
            (ab, aa, bb) = (ab + x * y, aa + x * x, bb + y * y);
        }
        ab / (aa * bb).sqrt()
    };
    (0..=most_lag).map(|lag| (at(lag), lag)).max_by(|x, y| x.0.total_cmp(&y.0)).unwrap()
}

#[test]
fn recorded_speech_survives_opus_at_every_rate() {
    let speech = speech();
    for (encode_at, decode_at) in [(8000, 8000), (8000, 48_000), (8000, 16_000)] {
        let mut encoder = Encoder::at(Params::CALL, encode_at).unwrap();
        let packets = frames(&speech, &mut encoder);
        let bytes: usize = packets.iter().map(Frame::len).sum();
        let kbit = bytes as f64 * 8.0 / (packets.len() as f64 * 20.0);
        assert!((12.0..30.0).contains(&kbit), "{kbit:.1} kbit/s");
        let back = params(Codec::Pcm16, decode_at, 1, 20);
        let mut down = Decoder::at(back, 8000, 1).unwrap();
        let (mut transcoder, mut heard) = (Transcoder::new(Params::CALL, back).unwrap(), Vec::new());
        for frame in push_all(&mut transcoder, &packets) {
            down.decode(Some(&frame), &mut heard).unwrap();
        }
        assert_eq!(heard.len(), packets.len() * 160);
        let (likeness, lag) = likeness(&speech[..8000 * 4], &heard, 100);
        // VOIP's high-pass filter turns phases, which no listener hears: the wave form tells whether it is the same
        // speech in its place, not how good it sounds.
        assert!(likeness > 0.9, "{encode_at} -> {decode_at}: {likeness:.3} at {lag}");
        assert!((40..=90).contains(&lag), "lag {lag} samples of 8 kHz");
    }
}

#[test]
fn g711_and_pcm_are_exact() {
    let speech = speech();
    for (codec, encode, decode) in [
        (Codec::G711Ulaw, g711::ulaw_encode as fn(i16) -> u8, g711::ulaw_decode as fn(u8) -> i16),
        (Codec::G711Alaw, g711::alaw_encode, g711::alaw_decode),
    ] {
        let (law, pcm) = (params(codec, 8000, 1, 20), params(Codec::Pcm16, 8000, 1, 20));
        let linear = frames(&speech, &mut Encoder::new(pcm).unwrap());
        let coded = push_all(&mut Transcoder::new(pcm, law).unwrap(), &linear);
        let expected: Vec<u8> = speech.iter().map(|sample| encode(*sample)).collect();
        assert_eq!(coded.concat(), expected[..coded.len() * 160]);
        let mut heard = Vec::new();
        let mut decoder = Decoder::new(law).unwrap();
        coded.iter().for_each(|frame| decoder.decode(Some(frame), &mut heard).unwrap());
        assert!(heard.iter().zip(&expected).all(|(sample, code)| *sample == decode(*code)));
    }
}

#[test]
fn equal_parameters_pass_the_very_bytes() {
    let ulaw = params(Codec::G711Ulaw, 8000, 1, 20);
    let mut same = Transcoder::new(ulaw, ulaw).unwrap();
    assert!(same.is_passthrough());
    let frame = Bytes::from_static(b"not looked into");
    let out = push_all(&mut same, std::slice::from_ref(&frame));
    assert_eq!((out.len(), out[0].as_ptr()), (1, frame.as_ptr()));
    same.push(None, |_| panic!("a missing frame stays missing"));
    // A packet of Opus has no rate and may be decoded as mono or stereo.
    assert!(Transcoder::new(Params::CALL, params(Codec::Opus, 16_000, 2, 20)).unwrap().is_passthrough());
    assert!(!Transcoder::new(Params::CALL, params(Codec::Opus, 48_000, 1, 40)).unwrap().is_passthrough());
}

#[test]
fn frames_are_cut_and_joined_without_loss() {
    let speech = speech();
    for (from_ms, to_ms) in [(10, 20), (20, 10), (20, 60), (60, 20), (40, 60), (60, 40)] {
        let (from, to) = (params(Codec::Pcm16, 8000, 1, from_ms), params(Codec::Pcm16, 8000, 1, to_ms));
        let input = frames(&speech, &mut Encoder::new(from).unwrap());
        let output = push_all(&mut Transcoder::new(from, to).unwrap(), &input);
        assert!(output.iter().all(|frame| Some(frame.len()) == to.frame_bytes()));
        let (before, after) = (input.concat(), output.concat());
        assert_eq!(before[..after.len()], after[..], "{from_ms} -> {to_ms}");
        assert!(before.len() - after.len() < to.frame_bytes().unwrap());
    }
    let (call, long) = (Params::CALL, params(Codec::Opus, 48_000, 1, 60));
    let input = frames(&speech, &mut Encoder::at(call, 8000).unwrap());
    let joined = push_all(&mut Transcoder::new(call, long).unwrap(), &input);
    assert_eq!(joined.len(), input.len() / 3);
    let cut = push_all(&mut Transcoder::new(long, call).unwrap(), &joined);
    assert_eq!(cut.len(), joined.len() * 3);
}

/// RFC 7587 §6.1, RFC 6716 table 1. The bandwidth stands in a packet's first byte (RFC 6716 table 2).
#[test]
fn a_listener_of_opus_is_given_no_more_than_he_bears() {
    let bandwidth = |frame: &Frame| match frame[0] >> 3 {
        0..=3 | 16..=19 => 8000,
        4..=7 => 12_000,
        8..=11 | 20..=23 => 16_000,
        12..=13 | 24..=27 => 24_000,
        _ => 48_000,
    };
    let mut seed = 7_u32;
    let mut noise = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) as i16 / 4
    };
    let wide: Vec<i16> = (0..48_000 * 2).map(|_| noise()).collect();
    for from in [params(Codec::Pcm16, 48_000, 1, 20), params(Codec::Opus, 48_000, 1, 40)] {
        let input = frames(&wide, &mut Encoder::new(from).unwrap());
        let make =
            |limits| push_all(&mut Transcoder::new(from, Target { params: Params::CALL, limits }).unwrap(), &input);
        let bits = |made: &[Frame]| made.iter().map(Frame::len).sum::<usize>() as u32 * 8 * 50 / made.len() as u32;
        let unbounded = make(Limits::default());
        assert_eq!((unbounded.len(), unbounded.iter().map(bandwidth).max()), (100, Some(48_000)));
        for (playback_rate, widest) in
            [(8000, 8000), (15_999, 12_000), (16_000, 16_000), (44_100, 24_000), (48_000, 48_000)]
        {
            let made = make(Limits { playback_rate, ..Limits::default() });
            assert_eq!((made.len(), made.iter().map(bandwidth).max()), (100, Some(widest)), "{from:?} {playback_rate}");
        }
        let narrow = make(Limits { bitrate: Some(12_000), ..Limits::default() });
        assert!(bits(&narrow) <= 12_500 && bits(&unbounded) > 20_000, "{} of {}", bits(&narrow), bits(&unbounded));
        let most = make(Limits { bitrate: Some(510_000), ..Limits::default() });
        assert_eq!(most, unbounded, "more than we would use is no wish for more");
        let constant = make(Limits { bitrate: Some(12_000), constant: true, ..Limits::default() });
        assert!(constant.iter().all(|frame| frame.len() == 30), "20 ms of 12 kbit/s");
    }
    // Of a phone of G.711 nothing more is made than it says, without anybody's asking.
    let ulaw = params(Codec::G711Ulaw, 8000, 1, 20);
    let said = vec![0x12; 160].into();
    let made = push_all(&mut Transcoder::new(ulaw, Params::CALL).unwrap(), &vec![said; 50]);
    assert_eq!((made.len(), made.iter().map(bandwidth).max()), (50, Some(8000)));
    // What is not made here is not looked into.
    let limits = Limits { playback_rate: 8000, ..Limits::default() };
    assert!(Transcoder::new(Params::CALL, Target { params: Params::CALL, limits }).unwrap().is_passthrough());
}

#[test]
fn frames_repeat_those_before_while_losses_are_expected() {
    let repeated = |made: Vec<Frame>| made.iter().filter(|frame| opus::repeats(frame)).count();
    for from in
        [params(Codec::G711Ulaw, 8000, 1, 20), params(Codec::Pcm16, 16_000, 1, 20), params(Codec::Pcm16, 48_000, 1, 20)]
    {
        // A tone that is another one in each frame.
        let hz = |frame: usize| [250.0, 700.0, 1300.0][frame % 3];
        let t = |n: usize| n as f64 / f64::from(from.sample_rate);
        let voice = |n| (9000.0 * (t(n) * hz(n / from.samples()) * std::f64::consts::TAU).sin()) as i16;
        let input = frames(&(0..from.samples() * 300).map(voice).collect::<Vec<_>>(), &mut Encoder::new(from).unwrap());
        for limits in [Limits::default(), Limits { halved: true, ..Limits::default() }] {
            let mut transcoder = Transcoder::new(from, Target { params: Params::CALL, limits }).unwrap();
            assert_eq!(repeated(push_all(&mut transcoder, &input[..100])), 0, "it costs bits");
            for percent in [1, 2, 5, 6, 30] {
                transcoder.expect_loss(percent);
                let while_lost = repeated(push_all(&mut transcoder, &input[100..200]));
                assert!(while_lost > 80, "{from:?} {limits:?}: {while_lost} at {percent} %");
            }
            transcoder.expect_loss(0);
            let after = repeated(push_all(&mut transcoder, &input[200..]));
            assert!(after <= 1, "{from:?} {limits:?}: {after}");
        }
        // No more bits than are borne all the same.
        let limits = Limits { loss: 10, bitrate: Some(16_000), ..Limits::default() };
        let mut transcoder = Transcoder::new(from, Target { params: Params::CALL, limits }).unwrap();
        let bytes = push_all(&mut transcoder, &input).iter().map(Frame::len).sum::<usize>();
        assert!(bytes <= 16_500 / 8 * 6, "{bytes} bytes in 6 s");
        let limits = Limits { loss: 10, ..Limits::default() };
        let mut transcoder = Transcoder::new(from, Target { params: Params::CALL, limits }).unwrap();
        assert!(repeated(push_all(&mut transcoder, &input)) > 240, "{from:?}: from the first one on");
    }
}

#[test]
fn every_pair_of_parameters_keeps_time() {
    let rates = [8000, 12_000, 16_000, 24_000, 48_000];
    let mut all = vec![params(Codec::G711Ulaw, 8000, 1, 20), params(Codec::G711Alaw, 8000, 1, 30), Params::CALL];
    all.extend(rates.map(|rate| params(Codec::Pcm16, rate, 1, 20)));
    all.extend([params(Codec::Pcm16, 48_000, 2, 10), params(Codec::Opus, 16_000, 2, 40)]);
    for from in &all {
        let mut encoder = Encoder::new(*from).unwrap();
        let silence = vec![0; encoder.frame_samples()];
        let count = 1200 / usize::from(from.frame_ms);
        let input: Vec<Frame> = (0..count).map(|_| encoder.encode(&silence).unwrap()).collect();
        for to in &all {
            let mut transcoder = Transcoder::new(*from, *to).unwrap();
            let output = push_all(&mut transcoder, &input);
            assert_eq!(output.len(), 1200 / usize::from(to.frame_ms), "{from:?} -> {to:?}");
            assert_eq!(transcoder.errors(), 0);
        }
    }
}

#[test]
fn missing_and_malformed_frames_are_concealed_in_time() {
    let speech = speech();
    let (ulaw, pcm) = (params(Codec::G711Ulaw, 8000, 1, 20), params(Codec::Pcm16, 8000, 1, 20));
    for (from, mut encoder) in
        [(ulaw, Encoder::new(ulaw).unwrap()), (Params::CALL, Encoder::at(Params::CALL, 8000).unwrap())]
    {
        let input = frames(&speech, &mut encoder);
        let (mut transcoder, mut output) = (Transcoder::new(from, pcm).unwrap(), Vec::new());
        let wrong = Bytes::from_static(&[0x03]);
        for (n, frame) in input.iter().enumerate() {
            let given = match n % 10 {
                4 => None,
                7 => Some(&wrong),
                _ => Some(frame),
            };
            transcoder.push(given, |frame| output.push(frame));
        }
        assert_eq!(output.len(), input.len());
        assert_eq!(transcoder.errors() as usize, (0..input.len()).filter(|n| n % 10 == 7).count());
    }
}

#[test]
fn concealment_joins_fades_and_ends_in_silence() {
    let pcm = params(Codec::Pcm16, 8000, 1, 20);
    let mut decoder = Decoder::new(pcm).unwrap();
    let ramp: Vec<u8> = (0..160_i16).flat_map(|n| (n * 100).to_le_bytes()).collect();
    let mut heard = Vec::new();
    decoder.decode(Some(&ramp), &mut heard).unwrap();
    (0..3).for_each(|_| decoder.decode(None, &mut heard).unwrap());
    assert_eq!(heard.len(), 640);
    assert_eq!(heard[160], 15_900, "joined where it broke off");
    assert!(heard.windows(2).all(|pair| (i32::from(pair[0]) - i32::from(pair[1])).abs() <= 200));
    assert!(heard[480..].iter().all(|sample| *sample == 0));
}

#[test]
fn wrong_lengths_are_named() {
    let pcm = params(Codec::Pcm16, 16_000, 1, 20);
    let error = Decoder::new(pcm).unwrap().decode(Some(&[0; 100]), &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "a frame of pcm16 16000 Hz holds 640 bytes, not 100");
    let error = Encoder::new(pcm).unwrap().encode(&[0; 3]).unwrap_err();
    assert_eq!(error, CodecError::SampleCount { expected: 320, found: 3 });
    assert!(matches!(Encoder::at(pcm, 8000), Err(CodecError::Rate { .. })));
}

#[test]
fn stereo_becomes_mono_and_back() {
    let (stereo, mono) = (params(Codec::Pcm16, 48_000, 2, 20), params(Codec::Pcm16, 16_000, 1, 20));
    let mut encoder = Encoder::new(stereo).unwrap();
    let samples = [1000_i16, 3000].repeat(960);
    let input: Vec<Frame> = (0..10).map(|_| encoder.encode(&samples).unwrap()).collect();
    let narrow = push_all(&mut Transcoder::new(stereo, mono).unwrap(), &input);
    let last = &narrow[9];
    assert_eq!((last.len(), i16::from_le_bytes([last[320], last[321]])), (640, 2000));
    let wide = push_all(&mut Transcoder::new(mono, stereo).unwrap(), &narrow);
    let last = &wide[9];
    assert_eq!(last.len(), 3840);
    assert_eq!(last[1920..1922], last[1922..1924]);
}
