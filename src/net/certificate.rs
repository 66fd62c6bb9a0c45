//! The few facts of an X.509 certificate that no verifier hands out: when it ends, and whether it signed itself.
//!
//! Reads DER (RFC 5280 §4.1) from our own files and never trusts it with anything; whoever must be *trusted* goes through the verifier.

use std::time::Duration;

use ring::digest;

pub(super) fn sha256(der: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
    hash
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Since the Unix epoch.
    pub(super) not_before: Duration,
    pub(super) not_after: Duration,
    pub(super) self_signed: bool,
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

impl Facts {
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let certificate = element(&mut &*der, SEQUENCE)?;
        let mut fields = element(&mut &*certificate, SEQUENCE)?;
        if fields.first() == Some(&VERSION) {
            any(&mut fields)?;
        }
        let (_serial, _algorithm) = (any(&mut fields)?, any(&mut fields)?);
        let (_, issuer) = any(&mut fields)?;
        let mut validity = element(&mut fields, SEQUENCE)?;
        let (_, subject) = any(&mut fields)?;
        let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
        Some(Self { not_before, not_after, self_signed: issuer == subject })
    }
}

/// Tag and content of the next element.
fn any<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&[tag, first], rest) = input.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *input = rest;
    Some((tag, content))
}

fn element<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    any(input).filter(|(found, _)| *found == tag).map(|(_, content)| content)
}

/// UTCTime `YYMMDDHHMMSSZ` (years 1950–2049) or GeneralizedTime `YYYYMMDDHHMMSSZ` (§4.1.2.5).
fn time(input: &mut &[u8]) -> Option<Duration> {
    let (tag, text) = any(input)?;
    let text = std::str::from_utf8(text).ok()?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let days = days_since_epoch(year, part(0)?, part(2)?);
    let seconds = days * 86_400 + part(4)? * 3600 + part(6)? * 60 + part(8)?;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// Of the Gregorian calendar, with years that begin in March so that the leap day is the last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(days_since_epoch(1970, 1, 1), 0);
        assert_eq!(days_since_epoch(2000, 2, 29), 11_016);
        assert_eq!(days_since_epoch(2026, 11, 25), 20_782);
        let mut utc: &[u8] = b"\x17\x0d700101000001Z";
        assert_eq!(time(&mut utc), Some(Duration::from_secs(1)));
        let mut generalized: &[u8] = b"\x18\x0f20500101000000Z";
        assert_eq!(time(&mut generalized), Some(Duration::from_secs(2_524_608_000)));
    }

    #[test]
    fn damaged_bytes_are_no_certificate() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let der = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate").der().to_vec();
        assert!(Facts::of(&der).expect("whole").self_signed);
        for length in 0..der.len().min(120) {
            assert_eq!(Facts::of(&der[..length]), None);
        }
        for at in 0..der.len() {
            let mut damaged = der.clone();
            damaged[at] ^= 0xff;
            Facts::of(&damaged);
        }
    }
}
