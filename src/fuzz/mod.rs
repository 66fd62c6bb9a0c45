//! Fuzz targets: one for everything that reads bytes of a network, or text of a user. Only in tests and with the cargo feature `fuzz`.
//!
//! A [`Target`] takes any bytes and panics when a promise is broken: no input panics a parser, none makes it hold more than its bounds,
//! what was read can be written and is then read as the same. Seeds are good inputs. `cargo test` runs every target with seeded
//! mutations of them ([`mutate`]); `fuzz/` hands the same bodies to libFuzzer (`make fuzz`).

mod draft16;
mod moqt;
mod mutate;
mod rtp;
mod session;
mod sip;
#[cfg(test)]
mod tests;
mod text;

pub use mutate::Random;

/// One thing to fuzz.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub const TARGETS: &[Target] = &[
    Target { name: "message", run: moqt::message, seeds: moqt::message_seeds },
    Target { name: "control16", run: draft16::control, seeds: draft16::seeds },
    Target { name: "uni_stream", run: moqt::uni_stream, seeds: moqt::uni_stream_seeds },
    Target { name: "datagram", run: moqt::datagram, seeds: moqt::datagram_seeds },
    Target { name: "properties", run: moqt::properties, seeds: moqt::properties_seeds },
    Target { name: "authorization", run: moqt::authorization, seeds: moqt::authorization_seeds },
    Target { name: "session", run: session::session, seeds: session::seeds },
    Target { name: "webtransport", run: crate::net::fuzz_webtransport, seeds: text::webtransport_seeds },
    Target { name: "token", run: text::token, seeds: text::token_seeds },
    Target { name: "keys", run: text::keys, seeds: text::keys_seeds },
    Target { name: "config", run: text::config, seeds: text::config_seeds },
    Target { name: "wire_json", run: text::wire_json, seeds: text::wire_json_seeds },
    Target { name: "rtp", run: rtp::rtp, seeds: rtp::rtp_seeds },
    Target { name: "rtcp", run: rtp::rtcp, seeds: rtp::rtcp_seeds },
    Target { name: "dtmf", run: rtp::dtmf, seeds: rtp::dtmf_seeds },
    Target { name: "wav", run: text::wav, seeds: text::wav_seeds },
    Target { name: "sdp", run: sip::sdp, seeds: sip::sdp_seeds },
    Target { name: "sip_text", run: sip::sip_text, seeds: sip::sip_text_seeds },
    Target { name: "dns", run: sip::dns, seeds: sip::dns_seeds },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// A few numbers from the front, the rest as they are: what a target needs to choose beside its input.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }
}
