"""The results as a table: `docs/interop.md` between its markers, when `CLUTCHCALL_INTEROP_TABLE` names that file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cells import DELIVERIES, DRAFTS, WIRES, Cell
from stacks import versions

BEGIN = "<!-- written by `make interop` -->"
END = "<!-- until here -->"
Cases = dict[str, tuple[bool, str]]


@dataclass
class Record:
    """What the run has found so far."""

    cells: dict[Cell, str] = field(default_factory=dict)
    failures: dict[str, tuple[str, str]] = field(default_factory=dict)
    played: dict[tuple[str, tuple[str, int, str]], Cases] = field(default_factory=dict)

    def cell(self, cell: Cell, word: str) -> None:
        self.cells[cell] = word

    def peer_failure(self, cell: Cell, reason: str, said: str, proof: str) -> None:
        """It fails because of the peer, and fails without us too."""
        self.failures.setdefault(reason, (said, proof))
        self.cells[cell] = f"peer {list(self.failures).index(reason) + 1}"

    def cases(self, client: str, where: tuple[str, int, str], found: Cases) -> None:
        self.played[client, where] = found

    def write(self, path: Path) -> None:
        """Replaces what stands between the markers."""
        text = path.read_text(encoding="utf-8")
        before, found, rest = text.partition(BEGIN)
        _, ended, after = rest.partition(END)
        assert found, f"{path} has no {BEGIN}"
        assert ended, f"{path} has no {END}"
        between = "\n".join(self._lines())
        path.write_text(f"{before}{BEGIN}\n{between}\n{END}{after}", encoding="utf-8")

    def _lines(self) -> Iterator[str]:
        names = ", ".join(f"{name} {version}" for name, version in versions().items())
        yield f"`make interop` with {names}."
        yield ""
        yield from self._matrix()
        yield ""
        yield from self._played()

    def _matrix(self) -> Iterator[str]:
        columns = [(wire, delivery) for wire in WIRES for delivery in DELIVERIES]
        yield "| Publisher → relay → subscriber | Draft | " + " | ".join(f"{w}, {d}" for w, d in columns) + " |"
        yield "|---|---|" + "---|" * len(columns)
        for pair in dict.fromkeys(cell.pair for cell in self.cells):
            for draft in DRAFTS:
                row = {(c.wire, c.delivery): w for c, w in self.cells.items() if (c.pair, c.draft) == (pair, draft)}
                if row:
                    yield f"| {pair} | {draft} | " + " | ".join(row.get(c, "not run") for c in columns) + " |"
        for number, (reason, (said, proof)) in enumerate(self.failures.items(), 1):
            yield f"\n**peer {number}**: {reason}. With us: {_short(said)}. Without us: {_short(proof)}."

    def _played(self) -> Iterator[str]:
        yield "| Cases of | Relay | Draft | Wire | Passed | Failed, and what the relay said |"
        yield "|---|---|---|---|---|---|"
        for (client, (relay, draft, wire)), found in self.played.items():
            failed = "; ".join(f"{case}: {_short(said)}" for case, (passed, said) in found.items() if not passed)
            passed = sum(passed for passed, _ in found.values())
            yield f"| {client} | {relay} | {draft} | {wire} | {passed} of {len(found)} | {failed or 'none'} |"


def _short(text: str) -> str:
    """One line without the run's own names and what a table would take for its own."""
    text = re.sub(r"[0-9a-f]{32}", "…", " ".join(text.split())).replace("|", "/")
    return text if len(text) <= 160 else text[:159] + "…"
