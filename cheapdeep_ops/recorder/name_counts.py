"""Under which names one process counts its calls: its own while the fleet has room for them, else `other`."""

from collections import Counter
from typing import Final

from cheapdeep_ops.admission import TOLD_NAMES, Admitted, busiest
from cheapdeep_ops.recorder.counter_buffer import CounterBuffer
from cheapdeep_ops.values import OTHER, Decision, Name

TOUCH_EVERY_S: Final = 86_400.0
"""How old the stored time of a name's last call becomes: a name without calls loses its place after 30 days."""

_CHECK_EVERY_S: Final = 3_600.0
_MOST_FOLDED: Final = 200
"""Of so many names that are not admitted, a process counts the calls; those with fewer calls are left out first."""

_CHOICE: Final = 2
"""So many names wait for each place: the busiest of them are admitted."""


class NameCounts:
    """Counts decisions into a buffer; those of new names wait there, so that no row of a refused name is written.

    Not thread-safe: the owner holds a lock.
    """

    def __init__(self) -> None:
        self.folded = 0
        """How many calls count as `other` because their route or class is not admitted."""
        self._folded_names: Counter[Name] = Counter()
        self._settled_with: Admitted | None = None
        self._waiting: dict[str, set[str]] = {}
        """The classes, with an empty one for the route itself, that wait for admission, by route."""
        self._called: set[Name] = set()
        self._check_at = float("-inf")

    def restart(self) -> None:
        """Count calls of names that are not admitted from zero again, because the process has another name now."""
        self.folded = 0
        self._folded_names = Counter()

    def add(self, buffer: CounterBuffer, decision: Decision, admitted: Admitted, *, at: int) -> bool:
        """Count a decision in the second `at`; False if the buffer is full."""
        name = decision.name or Name(decision.route, decision.input_class)
        counted = admitted.counted(name)
        if counted == name:
            self._called.add(name)
            return buffer.add(decision, name, at=at)
        awaited = self._awaited(name, admitted)
        if awaited is not None:
            return buffer.add(decision, awaited, at=at, is_decided=False)
        is_counted = buffer.add(decision, counted, at=at)
        if is_counted:
            self._note_folded(_lacking(name, counted), 1)
        return is_counted

    def _awaited(self, name: Name, admitted: Admitted) -> Name | None:
        """The name under which calls of `name` wait for its admission; None if there is no room for it.

        At most twice as many names wait as the store can admit, so a caller with endless names takes no memory.
        """
        wanted, waiting = admitted.wanted(name), self._waiting.get(name.route, set())
        is_new = Name(name.route) in wanted
        if not wanted or (is_new and not waiting and len(self._waiting) >= _CHOICE * admitted.room):
            return None
        if name in wanted and name.input_class not in waiting and len(waiting) > _CHOICE * admitted.max_classes:
            if not is_new:
                return None
            name = Name(name.route, OTHER)
        self._waiting[name.route] = waiting | {"", name.input_class} - {OTHER}
        return name

    def wanted(self, buffer: CounterBuffer, admitted: Admitted, now: float) -> list[Name]:
        """What the store is asked to admit or to note as called; mostly nothing."""
        return [*self._new(buffer, admitted), *self._stale(admitted, now)]

    def settle(self, buffer: CounterBuffer, admitted: Admitted) -> None:
        """Count all that waited for admission."""
        if admitted is not self._settled_with:
            self._settled_with = admitted
            # The store gets only a few names, so those that have a place by now would hide the others.
            for name in [each for each in self._folded_names if admitted.counted(each) == each]:
                del self._folded_names[name]
        for name, calls in buffer.undecided.items():
            counted = admitted.counted(name)
            if counted != name:
                self._note_folded(_lacking(name, counted), calls)
        buffer.settle(admitted.counted)
        self._waiting.clear()

    def _new(self, buffer: CounterBuffer, admitted: Admitted) -> list[Name]:
        """The names that wait, routes before classes, the busiest first: the store admits them in this order."""
        routes: Counter[Name] = Counter()
        classes: Counter[Name] = Counter()
        for name, calls in buffer.undecided.items():
            routes[Name(name.route)] += calls
            if name.input_class:
                classes[name] += calls
        ordered = [*busiest(routes, len(routes)), *busiest(classes, len(classes))]
        return [each for each in ordered if each not in admitted.called and each.input_class != OTHER]

    def _stale(self, admitted: Admitted, now: float) -> list[Name]:
        """The names whose calls are noted again in the store; looked for once an hour."""
        if now < self._check_at:
            return []
        self._check_at = now + _CHECK_EVERY_S
        called = {name: admitted.called.get(name) for each in self._called for name in (Name(each.route), each)}
        self._called.clear()
        return [name for name, at in called.items() if at is not None and now - at > TOUCH_EVERY_S]

    def _note_folded(self, name: Name, calls: int) -> None:
        self.folded += calls
        self._folded_names[name] += calls
        if len(self._folded_names) > _MOST_FOLDED:
            self._folded_names = Counter(busiest(self._folded_names, _MOST_FOLDED // 2))

    @property
    def folded_names(self) -> dict[str, int]:
        """The calls of up to ten names that are not admitted, the busiest first."""
        shown = busiest(self._folded_names, TOLD_NAMES)
        # A lone surrogate, which no log or database takes, is shown as a question mark.
        return {str(name).encode("utf-8", "replace").decode(): calls for name, calls in shown.items()}


def _lacking(name: Name, counted: Name) -> Name:
    """The route that has no place or, if it has one, the class of it."""
    return Name(name.route) if counted.route == OTHER else name
