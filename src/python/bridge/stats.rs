//! `BridgeStats`: a bridge in numbers. What the core counts, and what the delivery does.

use pyo3::prelude::*;

use super::Bridge;
use crate::client::Stats;

/// A bridge in numbers; frames unless the name says otherwise.
#[pyclass(frozen, get_all, module = "clutchcall._core")]
pub(in crate::python) struct BridgeStats {
    /// Frames that arrived.
    frames_in: u64,
    /// Frames that arrived and made room for newer ones, because the callback was too slow.
    dropped: u64,
    /// Holes in what arrived.
    gaps: u64,
    /// Frames that are missing in those holes.
    missing: u64,
    /// Frames that a stall of the path held up for more than 200 ms; they are not delivered.
    stale: u64,
    /// Frames that came again over another link, or from before the time it joined; they are not delivered.
    duplicates: u64,
    /// Keys that the far end pressed, while somebody was told of them.
    keys: u64,
    /// Keys that made room for newer ones, because 64 waited for the callback.
    keys_dropped: u64,
    /// Frames sent to at least one listener.
    frames_out: u64,
    /// Frames sent while nobody listened.
    unheard: u64,
    /// Frames whose time came while no link was up.
    offline: u64,
    /// Frames dropped because the link was too far behind.
    behind: u64,
    /// Of `frames_out`, those dropped because they waited 100 ms for room on the path (`delivery="datagram"`).
    too_old: u64,
    /// Published audio that has not left yet, in milliseconds.
    queued_ms: u64,
    /// Links that came back after a loss.
    reconnects: u64,
    /// Links that took the place of one that stood, without a loss: the relay asked for it, or the path was quiet.
    migrations: u64,
    /// Attempts to have a link.
    dials: u64,
    /// Bridges that share the link now, this one included; 0 when there is none.
    shared_by: u64,
    /// Round trip of the link's path now, in milliseconds; 0 when there is none.
    rtt_ms: f64,
    /// Packets that the link sent, and those of them that were lost.
    link_packets: u64,
    link_lost: u64,
    /// How many bytes of the link may be on their way.
    link_window: u64,
    /// Exceptions that left its callbacks: that of the audio, and those of keys and of the link.
    callback_errors: u64,
    /// Callbacks that took longer than 20 ms, of each sort.
    slow_callbacks: u64,
    /// Of the whole process: how often nothing was delivered to anybody, because four callbacks blocked at the same time.
    delivery_stalls: u64,
    /// For how long that has been so now, in milliseconds; 0: it is not.
    delivery_stalled_ms: u64,
    /// `connecting`, `connected`, `reconnecting`, `closed` or `failed`.
    state: &'static str,
}

#[pymethods]
impl BridgeStats {
    fn __repr__(&self) -> String {
        let Self { state, frames_in, dropped, gaps, missing, stale, duplicates, keys, keys_dropped, .. } = self;
        let Self { frames_out, unheard, offline, behind, too_old, queued_ms, .. } = self;
        let Self { reconnects, migrations, dials, shared_by, rtt_ms, link_packets, link_lost, link_window, .. } = self;
        let Self { callback_errors, slow_callbacks, delivery_stalls, delivery_stalled_ms, .. } = self;
        let heard = format!(
            "frames_in={frames_in}, dropped={dropped}, gaps={gaps}, missing={missing}, stale={stale}, duplicates={duplicates}, keys={keys}, keys_dropped={keys_dropped}"
        );
        let said = format!(
            "frames_out={frames_out}, unheard={unheard}, offline={offline}, behind={behind}, too_old={too_old}, queued_ms={queued_ms}"
        );
        let link = format!(
            "reconnects={reconnects}, migrations={migrations}, dials={dials}, shared_by={shared_by}, rtt_ms={rtt_ms:.1}, link_packets={link_packets}, link_lost={link_lost}, link_window={link_window}"
        );
        let callback = format!(
            "callback_errors={callback_errors}, slow_callbacks={slow_callbacks}, delivery_stalls={delivery_stalls}, delivery_stalled_ms={delivery_stalled_ms}"
        );
        format!("BridgeStats(state='{state}', {heard}, {said}, {link}, {callback})")
    }
}

impl Bridge {
    pub(super) fn figures(&self, py: Python<'_>, stats: Stats) -> BridgeStats {
        let (delivery_stalls, stalled) = self.delivery.stalls();
        let tally = self.slot.tally();
        BridgeStats {
            frames_in: stats.frames_in,
            dropped: self.slot.dropped(),
            gaps: stats.gaps,
            missing: stats.missing,
            stale: stats.stale,
            duplicates: stats.duplicates,
            keys: stats.keys,
            keys_dropped: self.beside.keys_dropped(py),
            frames_out: stats.frames_out,
            unheard: stats.unheard,
            offline: stats.offline,
            behind: stats.behind,
            too_old: stats.too_old,
            queued_ms: stats.queued_us / 1000,
            reconnects: stats.reconnects,
            migrations: stats.migrations,
            dials: stats.dials,
            shared_by: stats.shared_by,
            rtt_ms: stats.path.rtt.as_secs_f64() * 1_000.0,
            link_packets: stats.path.packets_out,
            link_lost: stats.path.packets_lost,
            link_window: stats.path.window_bytes,
            callback_errors: tally.errors(),
            slow_callbacks: tally.slow(),
            delivery_stalls,
            delivery_stalled_ms: stalled.as_millis() as u64,
            state: self.state(),
        }
    }
}
