"""What models refuse in triage requests: known from answers to a second request, for each model of one client.

A platform or gateway may answer 400 to a part of a triage request that the Claude API accepts. Then the question is
asked again without that part. Its answer is the proof that the part was refused. If the second request is refused too,
the fault may be the caller's, and nothing is learned.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

from cheapdeep_ops.flow import Ask
from cheapdeep_ops.values import NO_PARTS, TriagePart, TriageParts

PROBE_EVERY_S: Final = 60.0
"""A refused question is repeated at most this often, because most refusals are of a caller's own mistake."""

_SUSPECTS: Final[tuple[TriageParts, ...]] = (
    frozenset({TriagePart.FORMAT}),
    frozenset({TriagePart.EFFORT}),
    frozenset({TriagePart.FORMAT, TriagePart.EFFORT}),
)
"""What is left out of one probe after the other."""


@dataclass(slots=True)
class _Knowledge:
    refused: TriageParts = NO_PARTS
    probes: int = 0
    next_probe_at: float = 0.0


class RefusedParts:
    """The parts that the models of one client refuse. Thread-safe; `now` is in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[str, _Knowledge] = {}

    def of(self, model: str) -> TriageParts:
        """The parts that `model` is known to refuse."""
        knowledge = self._models.get(model)
        return NO_PARTS if knowledge is None else knowledge.refused

    def suspects(self, model: str, sent: TriageParts, now: float) -> TriageParts:
        """Of the parts that a refused request had, those to leave out of a second one; none if there is to be none."""
        with self._lock:
            knowledge = self._models.setdefault(model, _Knowledge())
            if learned := knowledge.refused & sent:  # another call has learned it in the meantime
                return learned
            possible = [parts for parts in _SUSPECTS if parts <= sent]
            if not possible or now < knowledge.next_probe_at:
                return NO_PARTS
            parts = possible[knowledge.probes % len(possible)]
            knowledge.probes, knowledge.next_probe_at = knowledge.probes + 1, now + PROBE_EVERY_S
            return parts

    def learn(self, model: str, parts: TriageParts) -> TriageParts:
        """Remember that `model` refuses `parts`; returns those that were not known."""
        with self._lock:
            knowledge = self._models.setdefault(model, _Knowledge())
            new = parts - knowledge.refused
            knowledge.refused |= parts
            return new


_of_clients: Final[WeakKeyDictionary[object, RefusedParts]] = WeakKeyDictionary()
_clients_lock: Final = threading.Lock()


def refused_parts_of(client: object) -> RefusedParts:
    """What is known of the models of `client`; all routers over one client share it."""
    with _clients_lock:
        return _of_clients.setdefault(client, RefusedParts())


@dataclass(slots=True, kw_only=True)
class CallRefusals:
    """The knowledge for one call: `cheapdeep_ops.flow.Refusals`.

    `decided` are parts on which a setting decides, and `left_out` those of them that are never sent. `sent` gives the
    parts of a request, `is_invalid` whether an error is the API's for an invalid request.
    """

    refused: RefusedParts
    decided: TriageParts
    left_out: TriageParts
    sent: Callable[[Ask], TriageParts]
    is_invalid: Callable[[BaseException], bool]
    clock: Callable[[], float]
    on_learned: Callable[[str, TriagePart], None]

    def known(self, model: str) -> TriageParts:
        """The parts to leave out of a request to `model`."""
        return self.refused.of(model) - self.decided | self.left_out

    def suspected(self, ask: Ask, error: BaseException) -> TriageParts:
        """The parts to leave out of a second request, now that the first got `error`."""
        if not self.is_invalid(error):
            return NO_PARTS
        return self.refused.suspects(ask.tier.model, self.sent(ask) - self.decided, self.clock())

    def proven(self, model: str, parts: TriageParts) -> None:
        """`model` has answered the question without `parts`, which it refused with them."""
        for part in sorted(self.refused.learn(model, parts)):
            self.on_learned(model, part)
