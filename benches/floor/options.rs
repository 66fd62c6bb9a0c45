//! What a run may change, written as one word list: `ack10,nomtud,lull=1000`.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::congestion::CubicConfig;
use quinn_proto::{AckFrequencyConfig, TransportConfig, VarInt};

/// How the loop sends what a turn has made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sending {
    /// One `sendmsg` per transmit, as quinn does.
    #[default]
    One,
    /// One `sendmmsg` per turn.
    Many,
    /// One `sendmmsg` per turn, and packets of one size to one address become one segmented message.
    Segmented,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Ask the peer for an ACK every ten packets (draft-ietf-quic-ack-frequency).
    ack10: bool,
    no_mtu_discovery: bool,
    no_gso: bool,
    /// A window so large that pacing never holds a packet back.
    wide: bool,
    pub(crate) default_buffers: bool,
    /// The channels of a connection fall into the same slots (channel modulo connections), instead of being spread over all.
    pub(crate) together: bool,
    /// A channel's frames are bytes of one stream instead of datagrams (quinn and the loop).
    pub(crate) streams: bool,
    /// Frames and received packets are cut from large blocks.
    pub(crate) arena: bool,
    pub(crate) sending: Sending,
    /// The loop turns at most once in this time; zero: whenever something arrives.
    pub(crate) lull: Duration,
}

impl Options {
    pub(crate) fn parse(words: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for word in words.split(',').filter(|word| !word.is_empty()) {
            match word.split_once('=').unwrap_or((word, "")) {
                ("ack10", _) => options.ack10 = true,
                ("nomtud", _) => options.no_mtu_discovery = true,
                ("nogso", _) => options.no_gso = true,
                ("wide", _) => options.wide = true,
                ("smallbuf", _) => options.default_buffers = true,
                ("together", _) => options.together = true,
                ("streams", _) => options.streams = true,
                ("arena", _) => options.arena = true,
                ("mmsg", _) => options.sending = Sending::Many,
                ("segments", _) => options.sending = Sending::Segmented,
                ("lull", us) => {
                    options.lull = Duration::from_micros(us.parse().map_err(|_| format!("{word}: µs expected"))?)
                }
                _ => return Err(format!("unknown option {word}")),
            }
        }
        Ok(options)
    }

    pub(crate) fn transport(&self) -> Arc<TransportConfig> {
        let mut transport = TransportConfig::default();
        if self.ack10 {
            let mut config = AckFrequencyConfig::default();
            config.ack_eliciting_threshold(VarInt::from_u32(10));
            transport.ack_frequency_config(Some(config));
        }
        if self.no_mtu_discovery {
            transport.mtu_discovery_config(None);
        }
        if self.wide {
            let mut cubic = CubicConfig::default();
            cubic.initial_window(16 << 20);
            transport.congestion_controller_factory(Arc::new(cubic));
        }
        transport.enable_segmentation_offload(!self.no_gso);
        Arc::new(transport)
    }
}
