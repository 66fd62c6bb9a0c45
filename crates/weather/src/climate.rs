//! What one direction of a path does to datagrams.
//!
//! A climate is plain numbers. As text it is words `name=number`, any of them, in any order; what is not named is as on a
//! clear day: `delay_us=20000 jitter_us=5000 loss=0.05 burst=3 reorder=0.01 reorder_us=10000 duplicate=0.01
//! rate_bps=64000 queue_bytes=8000`.

use std::str::FromStr;

/// How datagrams are lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Loss {
    #[default]
    None,
    /// Each by itself, with this probability.
    Uniform(f64),
    /// Gilbert's model: all are lost while the path is bad, none while it is good. `rate` of all are lost over time, and
    /// `burst` of them in a row on average.
    Bursts { rate: f64, burst: f64 },
}

/// What one direction does. The default is a clear day: nothing at all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Climate {
    /// Every datagram takes this long,
    pub delay_us: u64,
    /// and up to this much longer. Jitter alone keeps the order: one that is late holds up those behind it.
    pub jitter_us: u64,
    pub loss: Loss,
    /// The share of datagrams that are held back for `reorder_us` while later ones overtake them.
    pub reorder: f64,
    pub reorder_us: u64,
    /// The share of datagrams that arrive twice.
    pub duplicate: f64,
    /// The line's bits per second, of datagrams without their headers.
    pub rate_bps: Option<u64>,
    /// What may wait in front of the line. A datagram that finds no room is dropped and counted.
    pub queue_bytes: u64,
}

impl Default for Climate {
    fn default() -> Self {
        Self {
            delay_us: 0,
            jitter_us: 0,
            loss: Loss::None,
            reorder: 0.0,
            reorder_us: 10_000,
            duplicate: 0.0,
            rate_bps: None,
            queue_bytes: 64 * 1024,
        }
    }
}

impl FromStr for Climate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut climate = Self::default();
        let (mut rate, mut burst) = (0.0, None);
        for word in text.split_whitespace() {
            let (name, value) = word.split_once('=').ok_or_else(|| format!("{word}: a word is name=number"))?;
            match name {
                "delay_us" => climate.delay_us = whole(name, value)?,
                "jitter_us" => climate.jitter_us = whole(name, value)?,
                "loss" => rate = share(name, value)?,
                "burst" => burst = Some(number(name, value)?),
                "reorder" => climate.reorder = share(name, value)?,
                "reorder_us" => climate.reorder_us = whole(name, value)?,
                "duplicate" => climate.duplicate = share(name, value)?,
                "rate_bps" => climate.rate_bps = Some(whole(name, value)?).filter(|rate| *rate > 0),
                "queue_bytes" => climate.queue_bytes = whole(name, value)?,
                _ => return Err(format!("{name} is not a word of the weather")),
            }
        }
        climate.loss = loss(rate, burst)?;
        Ok(climate)
    }
}

fn loss(rate: f64, burst: Option<f64>) -> Result<Loss, String> {
    match burst {
        None if rate == 0.0 => Ok(Loss::None),
        None => Ok(Loss::Uniform(rate)),
        // Bursts must end, and the good stretches between them last one datagram at least.
        Some(burst) if burst >= 1.0 && rate < 1.0 && rate <= burst * (1.0 - rate) => Ok(Loss::Bursts { rate, burst }),
        Some(burst) => Err(format!("no path loses {rate} of all in bursts of {burst}")),
    }
}

fn number(name: &str, value: &str) -> Result<f64, String> {
    let read: f64 = value.parse().map_err(|_| format!("{name}={value}: not a number"))?;
    if read.is_finite() && read >= 0.0 { Ok(read) } else { Err(format!("{name}={value}: not at least 0")) }
}

fn share(name: &str, value: &str) -> Result<f64, String> {
    let read = number(name, value)?;
    if read <= 1.0 { Ok(read) } else { Err(format!("{name}={value}: a share is from 0 to 1")) }
}

fn whole(name: &str, value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("{name}={value}: not a whole number"))
}
