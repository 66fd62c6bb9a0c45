//! The QUIC settings of every connection, and the endpoint that holds them. Defaults of the library that are wrong for 20 ms of
//! audio are replaced here, each with its reason.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    AckFrequencyConfig, ClientConfig, Endpoint, EndpointConfig, HashedConnectionIdGenerator, IdleTimeout, ServerConfig,
    TransportConfig, VarInt,
};

use super::congestion::Demand;
use super::tls::{Identity, QuicKeys};
use crate::moqt::{Draft, Drafts};

/// ALPN of HTTP/3, under which WebTransport comes.
pub(super) const H3: &str = "h3";

/// A path that carries nothing for this long is dead. Who has data outstanding knows much earlier: `QUIET_AFTER`.
const IDLE: Duration = Duration::from_secs(10);
/// The dialling side keeps a silent link open; the other side does so only for peers that don't.
const KEEP_ALIVE_CLIENT: Duration = Duration::from_millis(2_500);
const KEEP_ALIVE_SERVER: Duration = Duration::from_millis(4_000);
/// The library's 333 ms cost a second when a packet of the handshake is lost.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// What is handed over in a turn and leaves in it; what waits does so in `datagrams`. The library counts its own record of a datagram too.
const DATAGRAM_SEND_BYTES: usize = 16 << 10;
pub(super) const DATAGRAM_ROOM: usize = DATAGRAM_SEND_BYTES - size_of::<bytes::Bytes>();
const DATAGRAM_RECEIVE_BYTES: usize = 256 << 10;
/// Everything that arrives is taken in the same turn: the windows only bound what one round trip may carry.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// What a connection takes from sessions before it refuses; beyond it, data waits in the session's sight. Grown with
/// the congestion window, see `streams`.
pub(super) const SEND_WINDOW_MIN: u64 = 64 << 10;
pub(super) const SEND_WINDOW_MAX: u64 = 4 << 20;
/// Each stream of a peer that may be opened costs memory before it is, so the limits start low and double while in use.
pub(super) const UNI_STREAMS_MIN: u32 = 128;
pub(super) const UNI_STREAMS_MAX: u64 = 1_024;
pub(super) const BIDI_STREAMS_MIN: u32 = 64;
pub(super) const BIDI_STREAMS_MAX: u64 = 1_024;
/// Both ways carry audio, so acknowledgements ride along; only every tenth packet needs one of its own.
const ACK_EVERY: u32 = 10;
/// The next frame of the other way takes it along. A hole is told of at once, as RFC 9000 §13.2.1 has it: with the extension's usual tolerance
/// for reordering the loss of a frame would be known one frame later.
const ACK_WITHIN: Duration = Duration::from_millis(21);

pub(super) fn endpoint(keys: &QuicKeys, server: Option<ServerConfig>, may_fragment: bool) -> Endpoint {
    let mut config = EndpointConfig::new(Arc::new(keys.reset_key()));
    let id_key = keys.connection_id_key();
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));
    // Only ids that carry our checksum are answered, by less than what came: no loop, no amplification. A pause between
    // resets would leave all but one of a restarted relay's clients in the dark.
    config.min_reset_interval(Duration::ZERO);
    Endpoint::new(Arc::new(config), server.map(Arc::new), !may_fragment, None)
}

pub(super) fn server(identity: &Identity, drafts: &Drafts) -> Result<ServerConfig, String> {
    let alpn: Vec<&str> = drafts.iter().map(Draft::alpn).chain([H3]).collect();
    let mut config = ServerConfig::new(identity.crypto(&alpn)?, Arc::new(identity.quic_keys().token_key()));
    config.transport_config(Arc::new(transport(KEEP_ALIVE_SERVER, &Demand::default())));
    // Phones change their address; the connection stays.
    config.migration(true);
    // The loop accepts or refuses at once; the bound on handshakes is its own.
    config.max_incoming(1_024);
    config.incoming_buffer_size(64 << 10).incoming_buffer_size_total(4 << 20);
    Ok(config)
}

/// For one connection that is accepted: its window has a floor of its own.
pub(super) fn accepted(base: &ServerConfig, demand: &Demand) -> Arc<ServerConfig> {
    let mut config = base.clone();
    config.transport_config(Arc::new(transport(KEEP_ALIVE_SERVER, demand)));
    Arc::new(config)
}

pub(super) fn client(crypto: Arc<QuicClientConfig>, demand: &Demand) -> ClientConfig {
    let mut config = ClientConfig::new(crypto);
    config.transport_config(Arc::new(transport(KEEP_ALIVE_CLIENT, demand)));
    config
}

fn transport(keep_alive: Duration, demand: &Demand) -> TransportConfig {
    let mut ack_frequency = AckFrequencyConfig::default();
    ack_frequency.ack_eliciting_threshold(VarInt::from_u32(ACK_EVERY));
    ack_frequency.max_ack_delay(Some(ACK_WITHIN));
    ack_frequency.reordering_threshold(VarInt::from_u32(1));
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok())
        .keep_alive_interval(Some(keep_alive))
        .initial_rtt(INITIAL_RTT)
        .congestion_controller_factory(Arc::new(demand.clone()))
        .datagram_send_buffer_size(DATAGRAM_SEND_BYTES)
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BYTES))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW_MIN)
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS_MIN))
        .max_concurrent_bidi_streams(VarInt::from_u32(BIDI_STREAMS_MIN))
        .ack_frequency_config(Some(ack_frequency));
    config
}
