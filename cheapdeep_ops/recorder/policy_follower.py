"""Follows the policies of a guard over HTTP: a thread with a long poll keeps the newest state."""

import random
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from cheapdeep_ops.admission import Admitted
from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.recorder.destination import News
from cheapdeep_ops.recorder.guard_connection import Answer, GuardConnection
from cheapdeep_ops.recorder.wire import (
    AGE_HEADER,
    LONGEST_POLL_S,
    POLICIES_PATH,
    WIRE_HEADER,
    WIRE_VERSION,
    admitted_in,
)

_SLACK_S: Final = 5.0
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 5.0
_FIRST_STATE_S: Final = 2.0
_REST_S: Final = 0.1
"""The pause after a change: two guards that know different states would be asked in turn without end."""

_JOIN_S: Final = 0.5


class PolicyFollower:
    """The newest state of a guard. Its thread starts with the first `newest`, and ends with `stop`.

    `on_change` is called in that thread when the policies may have changed, and must not block.
    """

    def __init__(self, url: str, *, token: str, clock: Callable[[], float], on_change: Callable[[], None]) -> None:
        self._connection = GuardConnection(url, token=token)
        self._on_change = on_change
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._tried = threading.Event()
        self._failure: StoreError | None = None
        self._state = _State(clock)

    @property
    def etag(self) -> str:
        """The tag of the state that is known; empty if none is."""
        return self._state.etag

    @property
    def admitted(self) -> Admitted:
        """The admitted names that are known."""
        return self._state.news.admitted

    def newest(self) -> News:
        """The newest known state, without a request. The first use waits for one response, at most two seconds.

        Raises StoreError if the last request failed.
        """
        if self._thread is None:
            self._stopping, self._tried, self._failure = threading.Event(), threading.Event(), None
            self._thread = threading.Thread(target=self._run, name="cheapdeep-policies", daemon=True)
            self._thread.start()
            # With a known state, the first response may come only with the next change.
            if not self._state.etag:
                self._tried.wait(_FIRST_STATE_S)
        with self._lock:
            if self._failure is not None:
                raise self._failure
            return self._state.news

    def note(self, body: Mapping[str, Any], *, asked_at: float, answered_at: float) -> None:
        """Take in the state that came with the response to a flush, and the store's time in it."""
        # The response may come from a guard that has not read the newest policies yet.
        with self._lock:
            is_new = self._state.take(body, is_whole=False)
            self._state.take_time(body.get("time"), asked_at, answered_at)
        if is_new:
            self._on_change()

    def store_changed(self) -> None:
        """Note that the guard's store was made anew."""
        with self._lock:
            self._state.store_changed()
        self._on_change()

    def stop(self) -> None:
        """End the thread and close the connection; the next `newest` starts them again."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopping.set()
        # The thread closes its own connection. If it waits for a new one, that takes longer than anybody should wait.
        ended, self._connection = self._connection, self._connection.another()
        ended.interrupt()
        thread.join(_JOIN_S)

    def _run(self) -> None:
        connection, stopping = self._connection, self._stopping
        try:
            self._follow(connection, stopping)
        finally:
            connection.close()

    def _follow(self, connection: GuardConnection, stopping: threading.Event) -> None:
        pause_s = _FIRST_PAUSE_S
        while not stopping.is_set():
            try:
                answer = self._poll(connection)
            except StoreError as error:
                if stopping.is_set():
                    return
                with self._lock:
                    self._failure = error
                self._tried.set()
                # With jitter, so that the routers of a guard that restarts do not all return at one moment.
                wait_s = getattr(error, "retry_after_s", None) or pause_s * random.uniform(0.5, 1)  # noqa: S311
                stopping.wait(wait_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            pause_s = _FIRST_PAUSE_S
            with self._lock:
                self._failure = None
            self._take(answer)
            self._tried.set()
            stopping.wait(_REST_S)

    def _poll(self, connection: GuardConnection) -> Answer:
        headers = {WIRE_HEADER: str(WIRE_VERSION), "If-None-Match": self._state.etag}
        path = f"{POLICIES_PATH}?wait_s={LONGEST_POLL_S:g}"
        answer = connection.ask("GET", path, headers=headers, timeout_s=LONGEST_POLL_S + _SLACK_S)
        if answer.status not in (200, 304):
            raise StoreError(refusal(connection, answer))
        return answer

    def _take(self, answer: Answer) -> None:
        with self._lock:
            if answer.status != 200:  # noqa: PLR2004 - the success with a body
                self._state.take_age(answer.headers.get(AGE_HEADER))
                return
            # A long poll says nothing about time: how long its response travelled is not known.
            is_new = self._state.take(answer.body, is_whole=True)
        if is_new:
            self._on_change()


class _State:
    """What a guard has said; not thread-safe. `news` is one object until something changes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.etag = ""
        self._version = 0
        self._store = ""
        self.news = News([], None, Admitted(called={}))

    def take(self, body: Mapping[str, Any], *, is_whole: bool) -> bool:
        """Take in a state; returns whether it has other policies."""
        from cheapdeep_ops.store.recording import StoredPolicy  # noqa: PLC0415 - see StoreDestination

        self.take_age(body.get("evaluated_age_s"))
        self._take_store(body.get("store", ""))
        self.news = self.news._replace(flush_every_s=body.get("flush_every_s"))
        rows, version = body.get("policies"), body.get("version", 0)
        if rows is None or not (is_whole or version > self._version):
            return False
        self.etag, self._version = body["etag"], version
        self.news = self.news._replace(
            policies=[StoredPolicy(*row[: len(StoredPolicy._fields)]) for row in rows],
            wants_candidates=bool(body.get("wants_candidates", True)),
            # A guard of an older version does not send names.
            admitted=admitted_in(body["admitted"]) if "admitted" in body else self.news.admitted,
        )
        return True

    def take_time(self, now: object, asked_at: float, answered_at: float) -> None:
        """Note the store's time, as a response said it."""
        from cheapdeep_ops.store.clock import Reading, StoreTime  # noqa: PLC0415 - see StoreDestination

        if isinstance(now, float | int):
            self.news = self.news._replace(time=Reading(StoreTime(now=float(now)), asked_at, answered_at))

    def store_changed(self) -> None:
        """Note that the store was made anew: its policies count from one again."""
        self._version = 0
        self.news = self.news._replace(store=object())

    def _take_store(self, store: str) -> None:
        """Note which store the guard uses: another one may lack what was sent, and its policies may be older."""
        if self._store and store and store != self._store:
            self.store_changed()
        self._store = store or self._store

    def take_age(self, age: object) -> None:
        """Note how long ago the acting guard evaluated, in seconds; None: never."""
        # By this host's clock, because the guard's may show another time.
        self.news = self.news._replace(guard_seen=None if age is None else self._clock() - float(str(age)))


def refusal(connection: GuardConnection, answer: Answer) -> str:
    """What a refusal says, and what to do."""
    detail = answer.body.get("detail") if isinstance(answer.body, dict) else None
    said = f"the guard at {connection.shown_url} answers HTTP {answer.status}: {detail or 'no reason given'}"
    if answer.status in (401, 403):
        return f"{said}; CHEAPDEEP_GUARD_TOKEN needs one of its tokens that may send"
    return said
