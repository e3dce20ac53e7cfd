"""Panels and boards as the SDK wants them, with what all of ours have in common."""

from collections.abc import Mapping, Sequence
from itertools import count
from string import ascii_uppercase
from typing import Any, Final

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import table as table_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode

from cheapdeep_ops.telemetry import names
from queries import SCOPE, WINDOW

Steps = Sequence[tuple[float | None, str]]
"""Colours from which value on; the first one has no value."""

Words = Mapping[float, tuple[str, str]]
"""What values are called, and their colour."""

PROMETHEUS: Final = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
UNKNOWN: Final = "#6e7280"
"""Grey: Grafana gives what it has no number for the colour of the lowest step, which is green, or red."""
PLAIN: Final[Steps] = ((None, "text"),)
GREEN: Final[Steps] = ((None, "green"),)
TAG: Final = "cheapdeep"
LEAST_COLUMN: Final = 60
"""Pixels: Grafana's own least width of a column, 150, hides the last columns of a table that fills half of a board."""

LIMIT: Final[Mapping[str, object]] = {
    "color": {"mode": "fixed", "fixedColor": "red"},
    "custom.lineStyle": {"fill": "dash", "dash": [10, 10]},
    "custom.lineWidth": 1,
    "custom.showPoints": "never",
}
"""How a line looks that others are compared with."""

BOUND: Final[Mapping[str, object]] = {
    "color": {"mode": "fixed", "fixedColor": "semi-dark-blue"},
    "custom.lineWidth": 1,
    "custom.showPoints": "never",
}
RATE: Final[Mapping[str, object]] = {"color": {"mode": "fixed", "fixedColor": "blue"}}
COUNT: Final[Mapping[str, object]] = {
    "color": {"mode": "fixed", "fixedColor": "gray"},
    "custom.axisPlacement": "right",
    "custom.lineWidth": 1,
    "custom.showPoints": "never",
    "unit": "locale",
    "min": 0,
}
"""How many a rate rests on, on an axis of its own."""

WITH_INTERVAL: Final = {"rate": RATE, "low": BOUND, "high": BOUND | {"custom.fillBelowTo": "low"}}
RED: Final[Mapping[str, object]] = {"color": {"mode": "fixed", "fixedColor": "red"}}
FINE: Final[Mapping[str, object]] = {"color": {"mode": "fixed", "fixedColor": "green"}}
UNSURE: Final[Mapping[str, object]] = {"color": {"mode": "fixed", "fixedColor": "gray"}}
ALL_ROUTES: Final = {"all routes": {"color": {"mode": "fixed", "fixedColor": "text"}, "custom.lineWidth": 1}}
"""For the last line of a panel by route: routes then have the same colours everywhere."""


def stat_panel(
    title: str,
    text: str,
    expr: str,
    *,
    unit: str,
    empty: str,
    steps: Steps = (),
    decimals: int = 0,
    words: Words | None = None,
    unknown: str = UNKNOWN,
) -> stat.Panel:
    """One number of now or of the whole period; `empty` is what it says without one, `words` name values.

    It is coloured only where `steps` say what is good and what is not; without a number its colour is `unknown`.
    """
    panel = stat.Panel().title(title).description(text).datasource(PROMETHEUS).span(4).height(4)
    panel.unit(unit).no_value(empty).decimals(decimals).thresholds(_thresholds(steps or PLAIN))
    panel.color_scheme(_colour("thresholds")).graph_mode(common.BigValueGraphMode.NONE)
    panel.color_mode(common.BigValueColorMode.BACKGROUND if steps else common.BigValueColorMode.NONE)
    panel.text_mode(common.BigValueTextMode.VALUE).orientation(common.VizOrientation.AUTO)
    panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
    panel.mappings([*([_words(words)] if words else []), _nothing(empty, unknown)])
    return panel.with_target(_query("A", expr, title).instant())


def lines(
    title: str,
    text: str,
    queries: Mapping[str, str],
    *,
    unit: str,
    empty: str,
    every: str = "15s",
    stacked: bool = False,
    stepped: bool = False,
    bars: bool = False,
    looks: Mapping[str, Mapping[str, object]] | None = None,
    low: float | None = None,
    high: float | None = None,
    decimals: int | None = None,
    many: bool = False,
    exemplars: bool = False,
    width: int = 12,
) -> timeseries.Panel:
    """Lines over time, expressions by legend; `every` is the shortest step, and so the least that a rate is over.

    The legend tells the last values too, unless there may be so `many` lines that it would take the panel. `exemplars`
    shows single calls as dots that lead to their traces.
    """
    panel = timeseries.Panel().title(title).description(text).datasource(PROMETHEUS).span(width).height(8)
    panel.unit(unit).no_value(empty).interval(every).thresholds(_thresholds(GREEN))
    panel.color_scheme(_colour("palette-classic")).legend(_legend(values=not many)).tooltip(_tooltip())
    _draw(panel, stacked=stacked, stepped=stepped)
    if bars:
        panel.draw_style(common.GraphDrawStyle.BARS).fill_opacity(80)
    if low is not None:
        panel.min(low)
    if high is not None:
        panel.max(high)
    if decimals is not None:
        panel.decimals(decimals)
    for name, look in (looks or {}).items():
        panel.override_by_name(name, _properties(look))
    return panel.targets([query.exemplar(exemplar=True) if exemplars else query for query in _targets(queries)])


def _draw(panel: timeseries.Panel, *, stacked: bool, stepped: bool) -> None:
    panel.draw_style(common.GraphDrawStyle.LINE).line_width(1 if stacked else 2).fill_opacity(40 if stacked else 0)
    panel.line_interpolation(common.LineInterpolation.STEP_AFTER if stepped else common.LineInterpolation.LINEAR)
    # A gap is a gap: what is unknown is not drawn over. A lone sample between two gaps shows as a point.
    panel.show_points(common.VisibilityMode.AUTO).point_size(5).span_nulls(span_nulls=False)
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))


ALERT_WORDS: Final[Words] = {0: ("quiet", "green"), 1: ("firing", "red")}


def timeline(
    title: str,
    text: str,
    queries: Mapping[str, str],
    *,
    empty: str,
    words: Words = ALERT_WORDS,
    width: int = 12,
    height: int = 8,
) -> statetimeline.Panel:
    """States over time; `words` are what the values 0 and 1 are called, and their colours."""
    panel = statetimeline.Panel().title(title).description(text).datasource(PROMETHEUS).span(width).height(height)
    panel.no_value(empty).interval("15s").line_width(0).fill_opacity(80)
    panel.thresholds(_thresholds([(None, words[0][1]), (1, words[1][1])])).color_scheme(_colour("thresholds"))
    panel.mappings([_words(words)])
    panel.merge_values(True).show_value(common.VisibilityMode.NEVER).legend(_legend(values=False))
    return panel.targets(_targets(queries))


def rows(
    title: str,
    text: str,
    columns: Mapping[str, tuple[str, str]],
    *,
    by: str,
    empty: str,
    width: int = 12,
) -> table.Panel:
    """A table of now or of the period: columns are (unit, expression) by name, one row for each value of `by`."""
    panel = table.Panel().title(title).description(text).datasource(PROMETHEUS).span(width).height(8).no_value(empty)
    panel.cell_options(common.TableAutoCellOptions()).min_width(LEAST_COLUMN)
    panel.sort_by([common_builders.TableSortByFieldState().display_name(by).desc(desc=False)])
    named = {f"Value #{letter}": name for letter, name in zip(ascii_uppercase, columns, strict=False)}
    panel.with_transformation(models.DataTransformerConfig("merge", options={}))
    organised = {"excludeByName": {"Time": True}, "renameByName": named, "indexByName": {}}
    panel.with_transformation(models.DataTransformerConfig("organize", options=organised))
    panel.override_by_name(
        by, _properties({"custom.minWidth": 130, "mappings": [_words({"*": ("all routes", "text")})]})
    )
    for name, (unit, _) in columns.items():
        panel.override_by_name(name, _properties({"unit": unit, "noValue": "unknown"}))
    for letter, (name, (_, expr)) in zip(ascii_uppercase, columns.items(), strict=False):
        query = _query(letter, expr, name).instant()
        panel.with_target(query.format(PromQueryFormat.TABLE))
    return panel


def board(
    name: str,
    text: str,
    panels: Sequence[Any],
    *,
    variables: Sequence[builders.QueryVariable] = (),
) -> models.Dashboard:
    """The board `cheapdeep: name`, with the variables, the marks and the links that all boards have."""
    made = builders.Dashboard(f"cheapdeep: {name}").uid(f"cheapdeep-{name}").description(text).tags([TAG]).version(1)
    made.time("now-6h", "now").refresh("30s").timezone("browser").tooltip(models.DashboardCursorSync.CROSSHAIR)
    made.timepicker(builders.TimePicker()).link(_links())
    made.annotation(_policy_changes()).annotation(_alerts())
    made.with_variable(builders.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    for variable in (_route(), _input_class(), *variables):
        made.with_variable(variable)
    for number, panel in zip(count(1), panels, strict=False):
        made.with_panel(panel.id(number))
    return _without_leftovers(made.build())


def _without_leftovers(made: models.Dashboard) -> models.Dashboard:
    """Without what the SDK adds and Grafana's own types do not know."""
    for variable in made.templating.list_val or []:
        variable.auto = variable.auto_min = variable.auto_count = None
    for panel in made.panels or []:
        if isinstance(panel, models.Panel) and isinstance(panel.options, table_models.Options):
            panel.options.footer = None
    return made


def one_of(name: str, label: str, values: str) -> builders.QueryVariable:
    """A variable of which one value is chosen."""
    return _variable(name, label, values).multi(False).include_all(False)


def _route() -> builders.QueryVariable:
    return _several("route", "Route", f"label_values({names.FLEET_CALLS}_total, route)")


def _input_class() -> builders.QueryVariable:
    values = f'label_values({names.FLEET_CALLS}_total{{route=~"$route"}}, input_class)'
    return _several("input_class", "Input class", values)


def _several(name: str, label: str, values: str) -> builders.QueryVariable:
    everything = models.VariableOption(text=["All"], value=["$__all"])
    return _variable(name, label, values).multi(True).include_all(True).all_value(".*").current(everything)


def _variable(name: str, label: str, values: str) -> builders.QueryVariable:
    query: dict[str, object] = {"qryType": 1, "query": values, "refId": "PrometheusVariableQueryEditor-VariableQuery"}
    made = builders.QueryVariable(name).label(label).datasource(PROMETHEUS).query(query).definition(values)
    return made.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)


def _links() -> builders.DashboardLink:
    made = builders.DashboardLink("cheapdeep boards").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
    return made.include_vars(True).keep_time(True).as_dropdown(False)


def _policy_changes() -> builders.AnnotationQuery:
    version = f"{names.FLEET_POLICY_VERSION}{{{SCOPE}}}"
    first = f"max by (scope) ({version}) > 0 unless max by (scope) ({version} offset {WINDOW})"
    # The first policy of a scope has no version before it; but nor has anything when the guard was not there.
    was_there = f"max({names.FLEET_ROUTERS} offset {WINDOW})"
    expr = f"max by (scope) (changes({version}[{WINDOW}])) > 0 or ({first} and on () {was_there})"
    text = "The threshold policy of this scope changed; `*` is all routes."
    return _marks("Policy changes", expr, "orange").title_format("Policy changed: {{scope}}").text_format(text)


def _alerts() -> builders.AnnotationQuery:
    fires = f"{names.FLEET_ALERT}{{{SCOPE}}}"
    # The beginning alone: an alert that fires all day would lie over all panels like a veil.
    begins = f"max by (rule, scope) ({fires}) == 1 unless max by (rule, scope) ({fires} offset {WINDOW}) == 1"
    text = "This alert began to fire here; the incident in Slack has the numbers and the runbook."
    return _marks("Alerts", begins, "red").title_format("{{rule}} {{scope}}").text_format(text).tag_keys("rule,scope")


def _marks(name: str, expr: str, colour: str) -> builders.AnnotationQuery:
    query = _query("Anno", expr, "").interval("60s")
    made = builders.AnnotationQuery().name(name).datasource(PROMETHEUS).enable(True).hide(False).icon_color(colour)
    # Older Grafanas read `expr` and `step`, newer ones the target.
    return made.expr(expr).step("60s").target(query).tag_keys("scope").use_value_for_time(False)


def _properties(look: Mapping[str, object]) -> list[models.DynamicConfigValue]:
    return [models.DynamicConfigValue(key, value) for key, value in look.items()]


def _targets(queries: Mapping[str, str]) -> list[Any]:
    named = zip(ascii_uppercase, queries.items(), strict=False)
    return [_query(letter, expr, legend) for letter, (legend, expr) in named]


def _query(letter: str, expr: str, legend: str) -> prometheus.Dataquery:
    made = prometheus.Dataquery().ref_id(letter).expr(expr).datasource(PROMETHEUS).range()
    made.editor_mode(QueryEditorMode.CODE)
    return made.legend_format(legend) if legend else made


def _legend(*, values: bool) -> common_builders.VizLegendOptions:
    made = common_builders.VizLegendOptions().display_mode(common.LegendDisplayMode.LIST).show_legend(True)
    return made.placement(common.LegendPlacement.BOTTOM).calcs(["lastNotNull"] if values else [])


def _tooltip() -> common_builders.VizTooltipOptions:
    return common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)


def _thresholds(steps: Steps) -> builders.ThresholdsConfig:
    made = [models.Threshold(value=value, color=colour) for value, colour in steps]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(made)


def _colour(mode: str) -> builders.FieldColor:
    return builders.FieldColor().mode(models.FieldColorModeId(mode))


def _words(words: Mapping[Any, tuple[str, str]]) -> models.ValueMap:
    named = enumerate(words.items())
    return models.ValueMap(
        options={
            str(value): models.ValueMappingResult(text=text, color=colour, index=index)
            for index, (value, (text, colour)) in named
        }
    )


def _nothing(text: str, colour: str) -> models.SpecialValueMap:
    result = models.ValueMappingResult(text=text, color=colour, index=9)
    match = models.SpecialValueMatch.NULL_AND_NAN
    return models.SpecialValueMap(options=models.DashboardSpecialValueMapOptions(match=match, result=result))
