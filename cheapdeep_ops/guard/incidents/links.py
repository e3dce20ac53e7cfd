"""The links in a message about an incident: Grafana, console and runbook."""

from typing import Final
from urllib.parse import urlencode

from cheapdeep_ops.addresses import is_web_address
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.values import ALL_ROUTES

BOARD: Final = "cheapdeep-routing"
"""The uid of the dashboard that shows an incident."""

_BEFORE_S: Final = 900.0
"""How many seconds before its start and after its end the window of an incident shows."""

_EVERY: Final = "$__all"
"""Grafana's placeholder for all values of a variable.

Source: https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/create-dashboard-url-variables/
"""

_RUNBOOK: Final = "alerts/README.md#"
"""The prefix with which the packaged rules name a heading of the packaged runbook."""


def links_of(
    settings: Settings, *, incident_id: int, scope: str, runbook: str, started_at: float, over_at: float | None
) -> list[list[str]]:
    """Names and addresses of the links that the settings have; `runbook` is the rule's annotation.

    Times are Unix seconds. Grafana's window ends at the present while `over_at` is None.
    """
    addresses = {
        "Grafana": settings.grafana_url and _window(settings.grafana_url, scope, started_at, over_at),
        "Console": settings.console_url and f"{settings.console_url.rstrip('/')}/incidents/{incident_id}",
        "Runbook": runbook_link(settings.runbook_url, runbook),
    }
    return [[name, address] for name, address in addresses.items() if address]


def receipt_links(settings: Settings, *, since: float, until: float) -> list[list[str]]:
    """Names and URLs for a receipt: the Grafana board over its period, and the console, if the settings have them."""
    addresses = {
        "Grafana": settings.grafana_url and _board(settings.grafana_url, ALL_ROUTES, since, until),
        "Console": settings.console_url,
    }
    return [[name, address] for name, address in addresses.items() if address]


def runbook_link(address: str | None, runbook: str) -> str:
    """The web address of a rule's runbook, or "".

    `runbook` is the rule's annotation: a web address, or a heading of alerts/README.md. `address` is the web address
    of that file. Any other text has no address.
    """
    if is_web_address(runbook):
        return runbook
    if address is None or not runbook.startswith(_RUNBOOK):
        return ""
    return f"{address.rstrip('#')}#{runbook.removeprefix(_RUNBOOK)}"


def _window(grafana: str, scope: str, started_at: float, over_at: float | None) -> str:
    return _board(grafana, scope, started_at - _BEFORE_S, None if over_at is None else over_at + _BEFORE_S)


def _board(grafana: str, scope: str, since: float, until: float | None) -> str:
    query = {
        "from": _milliseconds(since),
        "to": "now" if until is None else _milliseconds(until),
        "var-route": _EVERY if scope == ALL_ROUTES else scope,
        "var-scope": scope,
    }
    return f"{grafana.rstrip('/')}/d/{BOARD}?{urlencode(query)}"


def _milliseconds(at: float) -> int:
    return round(at * 1_000)
