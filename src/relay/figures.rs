//! What a relay counts, and its text form for `/metrics` (Prometheus, version 0.0.4).
//!
//! Each shard publishes one [`Figures`]; nobody waits for it. [`Figures::rows`] names every counter of the core, of the worker
//! and of the entrance once, with its meaning: a counter without a row does not compile. Nothing here is on the way of a frame.

use std::fmt::Write as _;

use crate::moqt::relay::Counters;
use crate::net;

/// Every name begins so.
const PREFIX: &str = "clutchcall_relay_";

/// One shard's figures, or the sum of all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub core: Counters,
    pub net: net::Counters,
    pub entrance: Entrance,
}

/// What happened to those who came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entrance {
    /// Sessions whose SETUP was accepted.
    pub admitted: u64,
    /// Sessions closed at SETUP over their tokens.
    pub unauthorized: u64,
    /// Sessions closed because all places, or those of their address, were taken.
    pub beyond_total: u64,
    pub beyond_address: u64,
    /// Sessions closed at SETUP because their token has as many as it may.
    pub beyond_token: u64,
    /// Sessions ended because their token was revoked, or its key withdrawn.
    pub withdrawn: u64,
    /// Whether the session to the upstream relay stands, and how often one was lost.
    pub upstream_up: u64,
    pub upstream_lost: u64,
    /// Sessions to it that another took the place of, at its GOAWAY.
    pub upstream_moved: u64,
    /// Peers given up because they acknowledged nothing.
    pub silent: u64,
}

/// Whether a figure only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
}

/// One figure.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
    pub value: u64,
}

/// The rows of a struct of figures and its sum with another: each field stands here once, or it does not compile.
macro_rules! table {
    ($rows:ident, $plus:ident, $of:path: $($kind:ident $name:literal $field:ident $help:literal;)*) => {
        fn $rows(of: &$of) -> Vec<Row> {
            let $of { $($field),* } = *of;
            vec![$(Row { name: $name, kind: Kind::$kind, help: $help, value: $field as u64 }),*]
        }
        fn $plus(one: &$of, other: &$of) -> $of {
            $of { $($field: one.$field + other.$field),* }
        }
    };
}

table! { core_rows, core_plus, Counters:
    Gauge "sessions" sessions "Sessions that are there now.";
    Gauge "relays" relays "Sessions from and to other relays and shards that are there now.";
    Gauge "tracks" tracks "Tracks that are published, wanted or waited for now.";
    Gauge "subscriptions" subscriptions "Subscriptions that are served now.";
    Gauge "subscriptions_held" held "Subscriptions that wait for a publisher now.";
    Gauge "tokens" tokens "Tokens that requests are counted for.";
    Gauge "namespaces" namespaces "Namespaces that are announced now.";
    Counter "objects_in" objects_in "Objects that publishers sent.";
    Counter "objects_out" objects_out "Objects handed to subscribers.";
    Counter "bytes_out" bytes_out "Payload bytes handed to subscribers.";
    Counter "duplicates" duplicates "Objects that a second publisher of a track brought once more.";
    Counter "taken_over" taken_over "Streams in the middle of which another publisher of the track went on.";
    Counter "malformed_tracks" malformed_tracks "Tracks ended because a publisher broke their rules.";
    Counter "datagrams_too_large" datagrams_too_large "Datagrams that did not fit a subscriber's path.";
    Counter "unauthorized" unauthorized "Requests and SETUPs refused over their tokens.";
    Counter "excessive" excessive "Requests and sessions refused beyond a limit.";
    Counter "over_subscriptions" over_subscriptions "Requests refused for the number of subscriptions.";
    Counter "over_held" over_held "Requests refused for the number of held subscriptions.";
    Counter "over_publications" over_publications "Requests refused for the number of namespaces, listings and published tracks.";
    Counter "over_name_bytes" over_name_bytes "Requests refused for the bytes of names.";
    Counter "over_requests" over_requests "Requests refused for their rate.";
    Counter "over_listed" over_listed "Listings refused for what is under their prefix.";
    Counter "over_token" over_token "Requests refused for what their token has in all its sessions.";
    Counter "unanswered" unanswered "Subscriptions that no publisher came for in time.";
    Counter "too_far_behind" too_far_behind "Subscriptions ended because their link did not take them.";
    Counter "behind_bytes" behind_bytes "Subscriptions ended for the bytes that waited.";
    Counter "behind_age" behind_age "Subscriptions ended for the age of a byte that waited.";
    Counter "behind_session" behind_session "Subscriptions ended for the bytes that waited in their whole session.";
    Counter "offers" offers "Tracks offered to those who asked for all of a namespace.";
    Counter "offers_blocked" offers_blocked "Tracks that a limit kept from being offered.";
    Counter "expired" expired "Requests ended behind the end of their token.";
    Counter "revoked" revoked "Requests ended because their token was revoked.";
    Gauge "fetching_bytes" fetching "Bytes of answers to FETCH that are on their way now.";
    Counter "fetches" fetches "FETCHes answered.";
    Counter "objects_fetched" objects_fetched "Objects handed to FETCHes.";
    Counter "fetches_upstream" errands "FETCHes sent to relays in charge.";
    Counter "fetches_upstream_failed" errands_in_vain "FETCHes sent to relays in charge that brought nothing.";
    Counter "over_fetching" over_fetching "FETCHes refused, and fills failed, for what their session had not taken of others.";
    Gauge "cache_bytes" cache_bytes "Bytes of the memory in which objects are kept for FETCH now.";
    Counter "cache_track_full" cache_track_full "Parts of a track's history dropped while young, for the bytes of the track.";
    Counter "cache_full" cache_full "Parts of a track's history dropped for the bytes of all tracks.";
    Counter "cache_too_large" cache_too_large "Objects not kept because they are larger than what a track may keep.";
    Counter "superseded" superseded "Publications that a newer epoch of their holder replaced.";
}

table! { entrance_rows, entrance_plus, Entrance:
    Counter "sessions_admitted" admitted "Sessions whose SETUP was accepted.";
    Counter "sessions_unauthorized" unauthorized "Sessions closed at SETUP over their tokens.";
    Counter "sessions_beyond_total" beyond_total "Sessions closed because all places were taken.";
    Counter "sessions_beyond_address" beyond_address "Sessions closed beyond the places of an address.";
    Counter "sessions_beyond_token" beyond_token "Sessions closed at SETUP beyond the places of their token.";
    Counter "sessions_withdrawn" withdrawn "Sessions ended because their token was revoked or its key withdrawn.";
    Gauge "upstream_up" upstream_up "Sessions to the upstream relay that stand now.";
    Counter "upstream_lost" upstream_lost "Sessions to the upstream relay that were lost.";
    Counter "upstream_moved" upstream_moved "Sessions to the upstream relay replaced at its GOAWAY.";
    Counter "sessions_silent" silent "Sessions given up because they acknowledged nothing.";
}

table! { net_rows, net_plus, net::Counters:
    Gauge "net_links" links "Connections and ports that are there now.";
    Counter "net_turns" turns "Rounds of the worker's loop.";
    Counter "net_wakes" wakes "Sleeps that another thread ended.";
    Counter "net_recv_calls" recv_calls "Receiving system calls.";
    Counter "net_send_calls" send_calls "Sending system calls.";
    Counter "net_packets_in" packets_in "UDP packets received.";
    Counter "net_packets_out" packets_out "UDP packets sent.";
    Counter "net_datagrams_in" datagrams_in "QUIC datagrams received.";
    Counter "net_datagrams_out" datagrams_out "QUIC datagrams sent.";
    Counter "net_datagrams_dropped" datagrams_dropped "QUIC datagrams that made room for newer ones.";
    Counter "net_timeouts" timeouts "Timers that had something to do.";
    Counter "net_handshakes_refused" refused "Connections refused over too many handshakes.";
    Counter "net_handshakes_retried" retried "Connections sent a Retry over too many handshakes.";
}

impl Figures {
    /// Every figure once, in a fixed order.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = core_rows(&self.core);
        rows.extend(entrance_rows(&self.entrance));
        rows.extend(net_rows(&self.net));
        rows
    }

    /// Those of two shards together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            core: core_plus(&self.core, &other.core),
            net: net_plus(&self.net, &other.net),
            entrance: entrance_plus(&self.entrance, &other.entrance),
        }
    }
}

/// The text of `/metrics`: each figure with HELP and TYPE, one line per shard.
pub fn render(shards: &[Figures]) -> String {
    let tables: Vec<Vec<Row>> = shards.iter().map(Figures::rows).collect();
    let mut text = String::new();
    for (at, row) in tables.first().into_iter().flatten().enumerate() {
        let (kind, total) = match row.kind {
            Kind::Counter => ("counter", "_total"),
            Kind::Gauge => ("gauge", ""),
        };
        let name = format!("{PREFIX}{}{total}", row.name);
        // Writing into a String can't fail.
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", row.help);
        for (shard, table) in tables.iter().enumerate() {
            let _ = writeln!(text, "{name}{{shard=\"{shard}\"}} {}", table[at].value);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_its_help_its_type_and_a_line_per_shard() {
        let mut figures = Figures::default();
        figures.core.objects_in = 7;
        figures.net.links = 3;
        let text = render(&[figures, Figures::default()]);
        assert!(text.contains("# TYPE clutchcall_relay_objects_in_total counter\n"), "{text}");
        assert!(text.contains("clutchcall_relay_objects_in_total{shard=\"0\"} 7\n"));
        assert!(text.contains("clutchcall_relay_objects_in_total{shard=\"1\"} 0\n"));
        assert!(text.contains("# TYPE clutchcall_relay_net_links gauge\n"));
        let rows = figures.rows();
        let names: std::collections::BTreeSet<_> = rows.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), rows.len(), "no name twice");
        for row in rows {
            assert_eq!(text.matches(&format!("# HELP {PREFIX}{}{} ", row.name, suffix(row.kind))).count(), 1);
        }
    }

    fn suffix(kind: Kind) -> &'static str {
        if kind == Kind::Counter { "_total" } else { "" }
    }
}
