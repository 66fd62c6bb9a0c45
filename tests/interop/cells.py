"""The matrix: which pairs, and what is known to fail because of a peer.

A cell is a publisher, a relay and a subscriber, one of them foreign, with a draft, a wire and a delivery. A known
failure is not an excuse: its cell must still fail, and so must the same conversation without us (`evidence`), or the
test fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from clutchcall import _core

OURS = "clutchcall"
# Who has a client, and who a relay.
CLIENTS = ("aiomoqt", "moq-rs")
RELAYS = ("aiomoqt", "moq-rs", "moq-relay")
WIRES = ("raw", "webtransport")
DELIVERIES = ("stream", "datagram")
DRAFTS: tuple[int, ...] = tuple(int(draft) for draft in _core.drafts())


@dataclass(frozen=True)
class Cell:
    """Who speaks to whom through whom, and how."""

    publisher: str
    relay: str
    subscriber: str
    draft: int
    wire: str
    delivery: str

    def __str__(self) -> str:
        return f"{self.publisher}>{self.relay}>{self.subscriber}-{self.draft}-{self.wire}-{self.delivery}"

    @property
    def pair(self) -> str:
        """The row of the table."""
        if self.relay != OURS:
            return f"ours → **{self.relay}** → ours"
        return (
            f"**{self.publisher}** → ours → ours" if self.publisher != OURS else f"ours → ours → **{self.subscriber}**"
        )

    def evidence(self) -> Cell:
        """The same without us: the foreign stack alone, or beside the other one where it has no end of its own."""
        stack = next(name for name in (self.publisher, self.relay, self.subscriber) if name != OURS)
        client = stack if stack in CLIENTS else "moq-rs"
        relay = stack if stack in RELAYS else "aiomoqt"
        return replace(self, publisher=client, relay=relay, subscriber=client)


@dataclass(frozen=True)
class Known:
    """A peer's failure, in its cells' words."""

    reason: str


def cells() -> Iterator[Cell]:
    """Every cell of every advertised draft."""
    pairs = [(name, OURS, OURS) for name in CLIENTS]
    pairs += [(OURS, OURS, name) for name in CLIENTS]
    pairs += [(OURS, name, OURS) for name in RELAYS]
    for publisher, relay, subscriber in pairs:
        for draft in DRAFTS:
            for wire in WIRES:
                for delivery in DELIVERIES:
                    yield Cell(publisher, relay, subscriber, draft, wire, delivery)


def is_short(cell: Cell) -> bool:
    """The form that is part of every test run: one draft, both wires, both deliveries, the peers that need no build."""
    return cell.draft == DRAFTS[0] and cell.relay != "moq-relay" and known(cell) is None


def known(cell: Cell) -> Known | None:
    """Why this cell is not expected to pass, if so."""
    if cell.publisher == "aiomoqt" and cell.wire == "webtransport" and cell.delivery == "datagram":
        return Known("aiomoqt sends no datagrams over WebTransport")
    return None


# Cases of the interop runner that a relay fails, with our client and with aiomoqt's.
_MOQ_DEV = {
    "rendezvous-timeout": "answers DOES_NOT_EXIST at once: it holds no SUBSCRIBE for RENDEZVOUS_TIMEOUT",
    "namespace-discovery": "refuses PUBLISH, by which aiomoqt's publisher offers its track",
    "publish-track-only": "refuses PUBLISH (NOT_SUPPORTED)",
    "publish-track-subscribe": "refuses PUBLISH (NOT_SUPPORTED)",
    "join": "serves no FETCH of more than one group (NOT_SUPPORTED), and fills no subscription",
}


def known_case(relay: str, case: str) -> str | None:
    """Why this relay fails this case, whoever plays it. Ours fails none."""
    return {"moq-rs": _MOQ_DEV, "moq-relay": _MOQ_DEV}.get(relay, {}).get(case)
