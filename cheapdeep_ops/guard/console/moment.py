"""Times on pages: in the reader's zone with their age, and in UTC on hover."""

from dataclasses import dataclass
from itertools import count

from nicegui.elements.mixins.text_element import TextElement

from cheapdeep_ops.guard.formatting import timestamp


@dataclass(frozen=True, slots=True)
class Instant:
    """A time in a table or among facts, as Unix seconds; None: never."""

    at: float | None


class Moment(TextElement, component="moment.js"):
    """A time, as `14:03 (12 min ago)`; with `only_age`, as `12 min ago`. The browser counts the age on."""

    def __init__(self, at: float, *, only_age: bool = False) -> None:
        # Until the browser formats it, and for those who read the page without one, the text is in UTC.
        super().__init__(text=timestamp(at))
        self.props["at"] = at
        self.props["form"] = "age" if only_age else "both"


class Zone(Moment):
    """The zone of all times of the page, as `Times: UTC+1`."""

    def __init__(self, now: float) -> None:
        super().__init__(now)
        # As true as the text of each time until the browser formats it.
        self.set_text("Times: UTC")
        self.props["form"] = "zone"


class LiveMoment(Moment):
    """How old the data are: `Live, 2 s ago`, and from `limit_s` on `Stale, 3 min ago`; sets the clock of all times."""

    def __init__(self, now: float, *, limit_s: float) -> None:
        super().__init__(now)
        self._numbers = count()
        self.classes("live")
        self.props["form"] = "live"
        self.props["limit"] = limit_s
        # From the start, because the header is the first part of a page, and the other times rest on this clock.
        self.props["reading"] = [now, next(self._numbers)]

    def renew(self, at: float, now: float) -> None:
        """Show the age of `at` at the server's present `now`, both Unix seconds."""
        self.set_text(timestamp(at))
        self.props["at"] = at
        self.props["reading"] = [now, next(self._numbers)]
