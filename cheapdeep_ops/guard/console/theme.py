"""The one theme of all pages: its colours and its style sheet."""

from typing import Final

from nicegui import ui

from cheapdeep_ops.guard.pictures.colours import ACTUAL, BASE, WRONG

PALETTE: Final = {"primary": "#1d5c96", "positive": "#1b6b2f", "negative": "#b3261e", "warning": "#8a5300"}
"""Quasar's colours; dark enough for white text: a contrast of at least 6:1."""

BLUE: Final = ACTUAL
GREY: Final = "#78838e"
ORANGE: Final = BASE
RED: Final = WRONG
"""The colours of charts, which are legible on the white and on the dark page."""

FAINT_LINES: Final = "rgba(120, 131, 142, 0.25)"
BAND_OPACITY: Final = 0.25
"""Of the area of an interval, which has the colour of its line."""

INCIDENT_OPACITY: Final = 0.2
"""Of the area of an incident."""

_STYLE: Final = (
    f"body {{ --base: {BASE}; }}\n"
    """
body {
  --ink: #1c2733; --faint: #56616d; --line: #d3dae1; --page: #f2f4f7; --surface: #ffffff; --link: #1d5c96;
  --good: #1b6b2f; --bad: #b3261e; --bar: #3b82c4;
  background: var(--page); color: var(--ink);
}
body.body--dark {
  --ink: #e6ebf0; --faint: #a9b4bf; --line: #36414c; --page: #11161b; --surface: #1a2129; --link: #8ec3f5;
  --good: #7fd494; --bad: #ff9a91; --bar: #5b9bd5;
  background: var(--page);
}
.nicegui-link { color: var(--link); }
.faint, .body--dark .q-field__label { color: var(--faint); }
.bad { color: var(--bad); }
.good { color: var(--good); }
.words { white-space: pre-wrap; overflow-wrap: anywhere; }
.q-header { background: var(--surface); color: var(--ink); border-bottom: 1px solid var(--line); }
.q-card { background: var(--surface); border: 1px solid var(--line); border-radius: 10px; box-shadow: none; }
.pages a { padding: 4px 10px; border-radius: 6px; text-decoration: none; white-space: nowrap; }
.pages a[aria-current] { background: var(--link); color: var(--surface); }
.alarm { border-left: 6px solid #c62828; }
.over { border-left: 6px solid #2e7d32; }
.state { border-left-width: 10px; }
.state .q-icon { font-size: 2.2rem; }
.figure { font-size: 1.7rem; line-height: 1.2; font-weight: 600; font-variant-numeric: tabular-nums; }
.tiles { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 13rem), 1fr)); }
.panels { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
.scrolls { overflow-x: auto; }
.q-table__card, .q-markup-table { background: var(--surface); color: var(--ink); box-shadow: none; }
.q-table th { color: var(--faint); font-weight: 600; }
.q-table td { font-variant-numeric: tabular-nums; }
.q-table .words { white-space: pre-wrap; min-width: 12rem; }
.q-table th:first-child, .q-table td:first-child {
  position: sticky; left: 0; z-index: 1; background: var(--surface); border-right: 1px solid var(--line);
}
.q-timeline__title { font-size: 1rem; font-weight: 600; margin: 4px 0 0; }
.q-timeline__content { padding-bottom: 12px; gap: 0; }
.share { min-width: 8.5rem; }
.share .q-linear-progress { color: var(--bar); }
.share .is-base { color: var(--base); }
.share .is-over { color: var(--bad); }
.live { border: 1px solid var(--line); border-radius: 999px; padding: 2px 10px; white-space: nowrap; }
.live::before { content: "\\25CF"; margin-right: 6px; color: var(--good); }
.live.is-stale { color: var(--faint); border-style: dashed; }
.live.is-stale::before { content: "\\25CB"; color: var(--faint); }
body:has(.live.is-stale:not(.hidden)) .fades { filter: grayscale(1); }
:focus-visible { outline: 2px solid #d97706; outline-offset: 2px; }
@media (max-width: 599px) {
  .q-table th:first-child, .q-table td:first-child {
    min-width: 5.5rem; max-width: 9rem; white-space: normal; overflow-wrap: break-word;
  }
  .q-table td:first-child .words, .q-table td.words:first-child { overflow-wrap: break-word; }
  .figure { font-size: 1.4rem; }
  .incidents { order: -1; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px; }
  .tiles .q-card, .nicegui-card { padding: 10px; }
}
@media (prefers-reduced-motion: reduce) {
  *, ::before, ::after { animation: none !important; transition: none !important; scroll-behavior: auto !important; }
}
@media print {
  body, body.body--dark { --ink: #000; --faint: #333; --line: #999; --page: #fff; --surface: #fff; --link: #000; }
  .pages, .no-print, .q-btn, .q-field, .q-notifications { display: none !important; }
  .q-header { position: static !important; }
  .q-page-container { padding-top: 0 !important; }
  .q-card, .q-table__container { break-inside: avoid; }
}
"""
)


def dress() -> None:
    """Give a page the theme."""
    ui.colors(**PALETTE)
    ui.add_css(_STYLE)
