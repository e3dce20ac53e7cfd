"""The table of routes: sortable, with bars for rates; its rows are renewed in place, so that it stays sorted."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from nicegui import ui

from cheapdeep_ops.guard.console.layout import empty

_SHARES: Final = {
    "base": "escalated at base, last hour",
    "actual": "escalated, last hour",
    "wrong": "false-confident rate, 24 hours",
}
# Quasar's heads react to clicks only; these react to the keyboard too, and say how the table is sorted.
_HEAD: Final = """
<q-tr :props="props">
  <q-th v-for="col in props.cols" :key="col.name" :props="props" scope="col" tabindex="0"
    :aria-sort="!col.__thClass.includes('sorted') ? 'none' :
      col.__thClass.includes('sort-desc') ? 'descending' : 'ascending'"
    @keydown.enter="props.sort(col)" @keydown.space.prevent="props.sort(col)">{{ col.label }}</q-th>
</q-tr>
"""
_ROUTE: Final = """
<q-td :props="props"><a class="nicegui-link" :href="props.row.link">{{ props.value }}</a></q-td>
"""
_CALLS: Final = '<q-td :props="props">{{ props.row.calls_text }}</q-td>'
_SHARE: Final = """
<q-td :props="props"><div class="share">
  <span :class="props.row.NAME_over ? 'bad text-bold' : ''">{{ props.row.NAME_text }}</span>
  <q-linear-progress aria-hidden="true" rounded size="6px" :value="props.value || 0"
    :class="props.row.NAME_over ? 'is-over' : 'is-NAME'" instant-feedback></q-linear-progress>
</div></q-td>
"""


class RoutesTable:
    """The figures of all routes."""

    def __init__(self) -> None:
        self._empty = ui.column().classes("w-full")
        with self._empty:
            empty("There were no calls in the last hour.", "Routes appear here with the first call of a Router.")
        columns = [
            _column("route", "route", "left"),
            _column("calls", "calls, last hour", "right"),
            *(_column(name, label, "left") for name, label in _SHARES.items()),
            _column("threshold", "threshold", "left"),
        ]
        self._table = ui.table(rows=[], columns=columns, row_key="link").classes("w-full")
        self._table.props('flat bordered dense binary-state-sort aria-label="Routes"')
        self._table.add_slot("header", _HEAD)
        self._table.add_slot("body-cell-route", _ROUTE)
        self._table.add_slot("body-cell-calls", _CALLS)
        for name in _SHARES:
            self._table.add_slot(f"body-cell-{name}", _SHARE.replace("NAME", name))

    def renew(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show these rows, in the order in which the reader has sorted them."""
        self._empty.set_visibility(not rows)
        self._table.set_visibility(bool(rows))
        if self._table.rows != list(rows):
            self._table.rows = [dict(row) for row in rows]


def _column(name: str, label: str, align: str) -> dict[str, Any]:
    return {"name": name, "label": label, "field": name, "align": align, "sortable": True}
