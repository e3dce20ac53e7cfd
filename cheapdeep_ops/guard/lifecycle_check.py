"""The daily question how long the models in use will live."""

import logging
import os
from collections.abc import Callable
from typing import Final

from cheapdeep_ops.claude.clients import make_client
from cheapdeep_ops.claude.model_info import RetirementInfo, life_of
from cheapdeep_ops.guard.rules.self_monitoring.reader import models_of
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import model_lifecycles
from cheapdeep_ops.store.engine import Store

_log: Final = logging.getLogger(__name__)
Ask = Callable[[tuple[str, ...]], list[RetirementInfo]]
"""Asks for models; those of which nothing was learned are left out."""


def ask_api(names: tuple[str, ...]) -> list[RetirementInfo]:
    """Ask the API that the environment names; nothing without a key."""
    if not (os.environ.get("ANTHROPIC_API_KEY") or os.environ.get("ANTHROPIC_AUTH_TOKEN")):
        return []
    with make_client() as client:
        return [found for name in names if (found := life_of(client, name)) is not None]


def check_models(store: Store, settings: Settings, now: float, ask: Ask = ask_api) -> int:
    """Ask for the models in use and store what is said; returns of how many anything was.

    What is not learned leaves what is stored as it is. Raises StoreError.
    """
    rows = [
        {
            "model": found.model,
            "lifecycle": found.lifecycle,
            "retires_at": found.retires_at,
            "checked_at": now,
            "error": found.problem,
        }
        for found in ask(models_of(settings))
    ]
    if rows:
        store.transact(lambda connection: model_lifecycles.save_lifecycles(connection, rows))
    _log.debug("the API told of %d models", len(rows))
    return len(rows)
