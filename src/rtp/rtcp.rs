//! RTCP compound packets (RFC 3550 §6): SR, RR, SDES and BYE are read and written, all others skipped.
//!
//! A compound packet of ours is SR or RR, SDES with a CNAME, and at the end of a leg BYE. Reading is a walk over the packets; a
//! length that does not fit ends it with an error, for nothing behind it can be found.

pub const SR: u8 = 200;
pub const RR: u8 = 201;
pub const SDES: u8 = 202;
pub const BYE: u8 = 203;
const VERSION: u8 = 2;
/// SDES item (RFC 3550 §6.5.1).
const CNAME: u8 = 1;
const SENDER_INFO_BYTES: usize = 20;
const BLOCK_BYTES: usize = 24;

/// What a sender says of itself (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderInfo {
    /// Seconds since 1900 and their fraction.
    pub ntp: u64,
    pub rtp_timestamp: u32,
    pub packets: u32,
    pub octets: u32,
}

/// What a receiver says of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    pub ssrc: u32,
    /// In 256ths, since the report before.
    pub fraction_lost: u8,
    /// 24 bits, signed.
    pub lost: i32,
    pub highest_sequence: u32,
    /// In units of the timestamp.
    pub jitter: u32,
    /// The middle 32 bits of the last SR's NTP timestamp; 0: none came.
    pub last_sr: u32,
    /// Since then, in 65,536ths of a second.
    pub delay_since_last_sr: u32,
}

/// One packet of a compound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rtcp<'a> {
    Report {
        ssrc: u32,
        sender: Option<SenderInfo>,
        blocks: Blocks<'a>,
    },
    /// The CNAME of one source.
    Cname {
        ssrc: u32,
        cname: &'a [u8],
    },
    /// The first source that leaves.
    Bye {
        ssrc: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks<'a>(&'a [u8]);

/// Why a datagram is no RTCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtcpError {
    #[error("RTCP ends inside a packet")]
    Truncated,
    #[error("RTCP version {0}, not 2")]
    Version(u8),
    #[error("RTCP padding does not fit")]
    Padding,
}

/// Gives each packet that is understood, in order.
pub fn parse<'a>(bytes: &'a [u8], mut each: impl FnMut(Rtcp<'a>)) -> Result<(), RtcpError> {
    let mut rest = bytes;
    if rest.is_empty() {
        return Err(RtcpError::Truncated);
    }
    while let Some((head, _)) = rest.split_first_chunk::<4>() {
        let [first, kind, l0, l1] = *head;
        if first >> 6 != VERSION {
            return Err(RtcpError::Version(first >> 6));
        }
        let words = usize::from(u16::from_be_bytes([l0, l1]));
        let (packet, behind) = rest.split_at_checked(4 + words * 4).ok_or(RtcpError::Truncated)?;
        let mut body = &packet[4..];
        if first & 0x20 != 0 {
            let padding = usize::from(body.last().copied().unwrap_or_default());
            let kept = body.len().checked_sub(padding).filter(|_| padding > 0).ok_or(RtcpError::Padding)?;
            body = &body[..kept];
        }
        one(kind, usize::from(first & 0x1f), body, &mut each)?;
        rest = behind;
    }
    if rest.is_empty() { Ok(()) } else { Err(RtcpError::Truncated) }
}

fn one<'a>(kind: u8, count: usize, body: &'a [u8], each: &mut impl FnMut(Rtcp<'a>)) -> Result<(), RtcpError> {
    match kind {
        SR | RR => {
            let (ssrc, mut rest) = word(body)?;
            let mut sender = None;
            if kind == SR {
                let (info, behind) = rest.split_at_checked(SENDER_INFO_BYTES).ok_or(RtcpError::Truncated)?;
                sender = Some(SenderInfo::parse(info)?);
                rest = behind;
            }
            let blocks = rest.get(..count * BLOCK_BYTES).ok_or(RtcpError::Truncated)?;
            each(Rtcp::Report { ssrc, sender, blocks: Blocks(blocks) });
        }
        SDES if count > 0 => {
            let (ssrc, items) = word(body)?;
            if let Some(cname) = cname(items)? {
                each(Rtcp::Cname { ssrc, cname });
            }
        }
        BYE if count > 0 => each(Rtcp::Bye { ssrc: word(body)?.0 }),
        _ => {}
    }
    Ok(())
}

/// Of the first chunk; items end with a zero (RFC 3550 §6.5).
fn cname(mut items: &[u8]) -> Result<Option<&[u8]>, RtcpError> {
    while let [kind, rest @ ..] = items {
        if *kind == 0 {
            return Ok(None);
        }
        let (length, rest) = rest.split_first().ok_or(RtcpError::Truncated)?;
        let (text, behind) = rest.split_at_checked(usize::from(*length)).ok_or(RtcpError::Truncated)?;
        if *kind == CNAME {
            return Ok(Some(text));
        }
        items = behind;
    }
    Ok(None)
}

fn word(bytes: &[u8]) -> Result<(u32, &[u8]), RtcpError> {
    let (word, rest) = bytes.split_first_chunk::<4>().ok_or(RtcpError::Truncated)?;
    Ok((u32::from_be_bytes(*word), rest))
}

impl SenderInfo {
    fn parse(bytes: &[u8]) -> Result<Self, RtcpError> {
        let (high, rest) = word(bytes)?;
        let (low, rest) = word(rest)?;
        let (rtp_timestamp, rest) = word(rest)?;
        let (packets, rest) = word(rest)?;
        let (octets, _) = word(rest)?;
        Ok(Self { ntp: u64::from(high) << 32 | u64::from(low), rtp_timestamp, packets, octets })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.ntp.to_be_bytes());
        for word in [self.rtp_timestamp, self.packets, self.octets] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
}

impl Blocks<'_> {
    pub fn iter(&self) -> impl Iterator<Item = ReportBlock> + '_ {
        self.0.chunks_exact(BLOCK_BYTES).filter_map(|bytes| ReportBlock::parse(bytes).ok())
    }
}

impl ReportBlock {
    fn parse(bytes: &[u8]) -> Result<Self, RtcpError> {
        let (ssrc, rest) = word(bytes)?;
        let (loss, rest) = word(rest)?;
        let (highest_sequence, rest) = word(rest)?;
        let (jitter, rest) = word(rest)?;
        let (last_sr, rest) = word(rest)?;
        let (delay_since_last_sr, _) = word(rest)?;
        // Sign of 24 bits.
        let lost = (loss << 8) as i32 >> 8;
        let fraction_lost = (loss >> 24) as u8;
        Ok(Self { ssrc, fraction_lost, lost, highest_sequence, jitter, last_sr, delay_since_last_sr })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let lost = self.lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
        let loss = u32::from(self.fraction_lost) << 24 | lost;
        let words = [self.ssrc, loss, self.highest_sequence, self.jitter, self.last_sr, self.delay_since_last_sr];
        for word in words {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
}

/// Appends an SR, or an RR where nothing was sent since the last report.
pub fn write_report(ssrc: u32, sender: Option<&SenderInfo>, block: Option<&ReportBlock>, out: &mut Vec<u8>) {
    let words = 1 + if sender.is_some() { 5 } else { 0 } + if block.is_some() { 6 } else { 0 };
    head(if sender.is_some() { SR } else { RR }, u8::from(block.is_some()), words, out);
    out.extend_from_slice(&ssrc.to_be_bytes());
    if let Some(sender) = sender {
        sender.write(out);
    }
    if let Some(block) = block {
        block.write(out);
    }
}

/// Appends SDES with one CNAME, of which 255 bytes count.
pub fn write_cname(ssrc: u32, cname: &[u8], out: &mut Vec<u8>) {
    let cname = &cname[..cname.len().min(255)];
    // SSRC, type and length, the text, and at least one zero up to the next word.
    let words = 1 + (2 + cname.len()) / 4 + 1;
    head(SDES, 1, words as u16, out);
    let end = out.len() + words * 4;
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&[CNAME, cname.len() as u8]);
    out.extend_from_slice(cname);
    out.resize(end, 0);
}

pub fn write_bye(ssrc: u32, out: &mut Vec<u8>) {
    head(BYE, 1, 1, out);
    out.extend_from_slice(&ssrc.to_be_bytes());
}

fn head(kind: u8, count: u8, words: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&[VERSION << 6 | count, kind]);
    out.extend_from_slice(&words.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SR of SSRC 0x01020304 with one block, SDES with CNAME "ab", BYE: by hand from RFC 3550 §6.4.1, §6.5, §6.6.
    const COMPOUND: &[u8] = &[
        0x81, 200, 0, 12, // V=2, one block, 12 words follow
        1, 2, 3, 4, // SSRC
        0xe0, 0, 0, 1, 0x80, 0, 0, 0, // NTP: a second number and a half
        0, 0, 0x3e, 0x80, // RTP timestamp 16000
        0, 0, 0, 100, 0, 0, 0x3e, 0x80, // 100 packets, 16000 octets
        9, 9, 9, 9, // the source reported on
        0x40, 0xff, 0xff, 0xfe, // a quarter lost; two less than none in all
        0, 1, 0, 5, // one cycle, sequence 5
        0, 0, 0, 80, // jitter: 10 ms at 8 kHz
        0, 1, 0x80, 0, // last SR
        0, 0, 0x80, 0, // half a second ago
        0x81, 202, 0, 3, 1, 2, 3, 4, 1, 2, b'a', b'b', 0, 0, 0, 0, // CNAME, padded with zeros to a word
        0x81, 203, 0, 1, 1, 2, 3, 4,
    ];
    const INFO: SenderInfo =
        SenderInfo { ntp: 0xe000_0001_8000_0000, rtp_timestamp: 16_000, packets: 100, octets: 16_000 };
    const BLOCK: ReportBlock = ReportBlock {
        ssrc: 0x0909_0909,
        fraction_lost: 64,
        lost: -2,
        highest_sequence: 0x0001_0005,
        jitter: 80,
        last_sr: 0x0001_8000,
        delay_since_last_sr: 0x8000,
    };

    #[test]
    fn a_compound_byte_for_byte() {
        let mut written = Vec::new();
        write_report(0x0102_0304, Some(&INFO), Some(&BLOCK), &mut written);
        write_cname(0x0102_0304, b"ab", &mut written);
        write_bye(0x0102_0304, &mut written);
        assert_eq!(written, COMPOUND);
        let mut seen = 0;
        parse(COMPOUND, |packet| {
            match packet {
                Rtcp::Report { ssrc, sender, blocks } => {
                    assert_eq!((ssrc, sender), (0x0102_0304, Some(INFO)));
                    assert_eq!(blocks.iter().collect::<Vec<_>>(), [BLOCK]);
                }
                Rtcp::Cname { ssrc, cname } => assert_eq!((ssrc, cname), (0x0102_0304, &b"ab"[..])),
                Rtcp::Bye { ssrc } => assert_eq!(ssrc, 0x0102_0304),
            }
            seen += 1;
        })
        .unwrap();
        assert_eq!(seen, 3);
    }

    #[test]
    fn an_empty_receiver_report_and_every_length_of_a_cname() {
        let mut written = Vec::new();
        write_report(7, None, None, &mut written);
        assert_eq!(written, [0x80, 201, 0, 1, 0, 0, 0, 7]);
        for length in 0..12 {
            written.clear();
            write_cname(7, &b"abcdefghijkl"[..length], &mut written);
            assert_eq!(written.len() % 4, 0);
            let mut found = None;
            parse(&written, |packet| found = Some(packet)).unwrap();
            assert_eq!(found, Some(Rtcp::Cname { ssrc: 7, cname: &b"abcdefghijkl"[..length] }));
            assert_eq!(written.last(), Some(&0), "RFC 3550 §6.5: a zero ends the items");
        }
    }

    #[test]
    fn others_are_skipped_and_what_does_not_fit_is_an_error() {
        // XR (207), an APP without name, a report of padding alone behind it.
        let mut bytes = vec![0x80, 207, 0, 1, 0, 0, 0, 7, 0x80, 204, 0, 0];
        let mut seen = 0;
        parse(&bytes, |_| seen += 1).unwrap();
        assert_eq!(seen, 0);
        bytes.extend_from_slice(&[0x80, 203, 0, 9]);
        assert_eq!(parse(&bytes, |_| seen += 1), Err(RtcpError::Truncated));
        assert_eq!(parse(&[], |_| seen += 1), Err(RtcpError::Truncated));
        assert_eq!(parse(&[0x40, 200, 0, 0], |_| seen += 1), Err(RtcpError::Version(1)));
        assert_eq!(parse(&[0xa0, 201, 0, 0], |_| seen += 1), Err(RtcpError::Padding));
        assert_eq!(
            parse(&[0x82, 201, 0, 1, 0, 0, 0, 7], |_| seen += 1),
            Err(RtcpError::Truncated),
            "two blocks missing"
        );
        for length in 1..COMPOUND.len() {
            // A cut at the end of a packet is a shorter compound.
            let ends = [52, 68].contains(&length);
            assert_eq!(parse(&COMPOUND[..length], |_| ()).is_ok(), ends, "{length}");
        }
        assert_eq!(seen, 0);
    }
}
