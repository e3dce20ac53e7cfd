"""The daily check of the lifecycles of the models in use."""

import logging
import os
from collections.abc import Callable
from typing import Final

from cheapdeep_ops.claude.clients import make_client
from cheapdeep_ops.claude.model_info import RetirementInfo, retirement_info
from cheapdeep_ops.guard.rules.self_monitoring.reader import models_of
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import model_lifecycles
from cheapdeep_ops.store.engine import Store

_log: Final = logging.getLogger(__name__)
RequestLifecycles = Callable[[tuple[str, ...]], list[RetirementInfo]]
"""Returns the lifecycles of models by name; a model without information is left out."""


def request_lifecycles(names: tuple[str, ...]) -> list[RetirementInfo]:
    """Request lifecycles from the API that the environment variables name; empty without a key."""
    # A guard that grades nothing runs without a key.
    if not (os.environ.get("ANTHROPIC_API_KEY") or os.environ.get("ANTHROPIC_AUTH_TOKEN")):
        return []
    with make_client() as client:
        return [info for name in names if (info := retirement_info(client, name)) is not None]


def check_models(store: Store, settings: Settings, now: float, request: RequestLifecycles = request_lifecycles) -> int:
    """Request and store the lifecycles of the models in use; returns how many were stored.

    A model without information keeps its stored row. Raises StoreError.
    """
    rows = [
        {
            "model": info.model,
            "lifecycle": info.lifecycle,
            "retires_at": info.retires_at,
            "checked_at": now,
            "error": info.problem,
        }
        for info in request(models_of(settings))
    ]
    if rows:
        store.transact(lambda connection: model_lifecycles.save_lifecycles(connection, rows))
    _log.debug("the API has given the lifecycles of %d models", len(rows))
    return len(rows)
