"""The log as a receiver, for settings that configure no other."""

import logging
from collections.abc import Mapping
from typing import Any, Final

from cheapdeep_ops.guard.notify.messages import details, headline, is_history, links
from cheapdeep_ops.guard.notify.sender import MessageRef

_log: Final = logging.getLogger(__name__)


class LogSender:
    """Writes messages to the log."""

    def accepts(self, payload: Mapping[str, Any]) -> bool:
        """All but replies that repeat an earlier message."""
        return not is_history(payload)

    def send(self, payload: Mapping[str, Any], ref: MessageRef) -> MessageRef:
        """Log `payload`, unless `accepts` excludes it."""
        if not self.accepts(payload):
            return ref
        lines = [*details(payload), *(f"{name}: {address}" for name, address in links(payload))]
        _log.warning("%s | %s", headline(payload), " | ".join(lines))
        return ref

    def check(self) -> str:
        """Say that messages go to the log."""
        return "messages go to the log"
