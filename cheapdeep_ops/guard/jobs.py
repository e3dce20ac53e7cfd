"""Jobs of the guard: a job runs in one thread at a time, and its runs are counted by outcome."""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from cheapdeep_ops.errors import CheapdeepError, StoreError
from cheapdeep_ops.guard.outages import OutageLog

DONE: Final = "done"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"
RESCHEDULED: Final = "rescheduled"
OUTCOMES: Final = (DONE, FAILED, SKIPPED, RESCHEDULED)

_log: Final = logging.getLogger(__name__)


class Job:
    """Runs `work` at each call; skips the run if an earlier call still runs. A call never raises.

    `runs` counts the runs by (name, outcome). Skipped runs are normal on a busy machine. A series of them is logged at
    INFO: once when it begins, and once when it ends. Errors of the store go to `outages`. Any other error is logged
    once, until it changes or a run succeeds.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], object],
        *,
        every_s: float,
        runs: Counter[tuple[str, str]],
        outages: OutageLog,
    ) -> None:
        self.name = name
        self.every_s = every_s
        self._work = work
        self._runs = runs
        self._running = threading.Lock()
        self._outages = outages
        self._last_failure = ""
        self._skipped = 0
        self._is_late = False
        # All outcomes begin at 0, so that a counter's first increase shows in Prometheus.
        runs.update({(name, outcome): 0 for outcome in OUTCOMES})

    def __call__(self) -> None:
        """Run once, or skip the run if an earlier one still runs."""
        if not self._running.acquire(blocking=False):
            self._skip()
            return
        try:
            self._is_late = False
            self.count(self._run())
            self._end_episode()
        finally:
            self._running.release()

    def count(self, outcome: str) -> None:
        """Count one run by its outcome."""
        self._runs[(self.name, outcome)] += 1

    def _run(self) -> str:
        try:
            self._work()
        except StoreError as error:
            self._outages.failed(error)
        except CheapdeepError as error:
            if self._is_news(error):
                _log.error("the job %s failed: %s", self.name, error)
        except Exception as error:  # noqa: BLE001 - any error of this run must leave the scheduler running
            # With the traceback, because an unexpected error is a bug.
            if self._is_news(error):
                _log.exception("the job %s failed", self.name)
        else:
            self._last_failure = ""
            return DONE
        return FAILED

    def _is_news(self, error: Exception) -> bool:
        before, self._last_failure = self._last_failure, f"{type(error).__name__}: {error}"
        return self._last_failure != before

    def _skip(self) -> None:
        self.count(SKIPPED)
        self._is_late = True
        if not self._skipped:
            _log.info("the job %s takes longer than %g s: runs are skipped until it keeps up", self.name, self.every_s)
        self._skipped += 1

    def _end_episode(self) -> None:
        """Log that the job keeps up again, after a run during which no other run was skipped."""
        if self._skipped and not self._is_late:
            _log.info("the job %s keeps up again; %s runs were skipped", self.name, self._skipped)
            self._skipped = 0
