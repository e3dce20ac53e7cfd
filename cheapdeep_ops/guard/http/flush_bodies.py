"""Reads the bodies that routers send. Their values are data: types, ranges and lengths are checked strictly."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields
from typing import Annotated, Any, Final, NamedTuple, NotRequired, Required

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic does not read that of `typing` before Python 3.12

from cheapdeep_ops.budgets import BudgetName, SliceRequest
from cheapdeep_ops.call_counters import Counters
from cheapdeep_ops.recorder.wire import BodyError
from cheapdeep_ops.store.recording import Heartbeat, Rejected, Rows
from cheapdeep_ops.store.senders import Flush, Identity
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import ALL_ROUTES, Name

_LARGEST: Final = 2**31 - 1
_LARGEST_SUM: Final = 2**63 - 1
_LONGEST_LABEL: Final = 100
_LONGEST_NAME: Final = 400
_MOST_NAMES: Final = 500
_MOST_ROWS: Final = 20_000
_MOST_ASKS: Final = 1_000
_MOST_TURNS: Final = 10_000
_LONGEST_TEXT: Final = 200_000
_AHEAD_S: Final = float(DAY_S)
"""How far a row's time may lie ahead of the guard's clock."""

_TOO_LATE: Final = "lies more than a day ahead"
_OTHER_ROUTE: Final = "the token is limited to other routes"

_SUMS: Final = ("_nusd", "_tokens")
"""How the names of counters end that the store keeps in 64 bits; the others have 32."""


_PRINTABLE: Final = r"^[^\p{Cc}\p{Zl}\p{Zp}]*$"
"""Text without control characters and line breaks. Lone surrogates are no JSON."""

_STORABLE: Final = r"^[^\x00]*$"
"""Text that databases can store."""

_Count = Annotated[int, Field(ge=0, le=_LARGEST, strict=True)]
_Sum = Annotated[int, Field(ge=0, le=_LARGEST_SUM, strict=True)]
_Name = Annotated[str, Field(max_length=_LONGEST_NAME, pattern=_STORABLE)]
_Label = Annotated[str, Field(max_length=_LONGEST_LABEL, pattern=_PRINTABLE)]
_Short = Annotated[str, Field(max_length=_LONGEST_NAME, pattern=_PRINTABLE)]
_Text = Annotated[str, Field(max_length=_LONGEST_TEXT, pattern=_STORABLE)]
_Names = Annotated[dict[_Name, _Sum], Field(max_length=_MOST_NAMES)]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
_Time = Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)]
_Number = Annotated[float, Field(gt=-1e11, lt=1e11, allow_inf_nan=False)]
_Process = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
_Money = Annotated[int, Field(ge=0, le=10**16, strict=True)]
_Secret = Annotated[str, Field(max_length=100)]


def _kind_of(counter: Any) -> Any:
    if counter.type is not int:
        return _Names
    return _Sum if counter.name.endswith(_SUMS) else _Count


_COUNTERS: Final = {each.name: _kind_of(each) for each in fields(Counters)}
_EMPTY: Final[Mapping[str, Any]] = {each.name: 0 if each.type is int else {} for each in fields(Counters)}
# Made from the counters themselves, so that a new counter needs no line here.
_Counts: Any = TypedDict("_Counts", _COUNTERS, total=False)  # type: ignore[misc]


class _Total(_Counts):
    route: _Label
    input_class: _Label


class _Bucket(_Total):
    at: _Sum


_THE_GUARDS: Final = frozenset({"process", "kind", "seen_at"})
_BEAT_KINDS: Final[Mapping[Any, Any]] = {float: _Number, int: _Count, str: _Short, Mapping[str, int]: _Names}
# Made from the heartbeat itself; an older router leaves out what has a default.
_Beat: Any = TypedDict(  # type: ignore[misc]
    "_Beat",
    {
        each.name: (Required if each.default is each.default_factory is MISSING else NotRequired)[
            _Share if each.name == "base_threshold" else _BEAT_KINDS[each.type]
        ]
        for each in fields(Heartbeat)
        if each.name not in _THE_GUARDS
    },
)


class _FlushBody(TypedDict, total=False):
    process: _Process
    secret: _Secret
    number: _Sum
    knows: _Short
    beat: _Beat
    buckets: Annotated[list[_Bucket], Field(max_length=_MOST_ROWS)]
    totals: Annotated[list[_Total], Field(max_length=_MOST_ROWS)]
    is_last: bool


class _NamesBody(TypedDict):
    names: Annotated[list[tuple[_Label, _Label]], Field(max_length=_MOST_ROWS)]


class _Ask(TypedDict):
    day: _Count
    budget: _Name
    spent: _Money
    ceiling: _Money
    unpriced: _Count
    limit: _Money | None
    is_last: Annotated[bool, Field(strict=True)]


class _SlicesBody(TypedDict):
    holder: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    number: _Sum
    asks: Annotated[list[_Ask], Field(max_length=_MOST_ASKS)]


class _Turn(TypedDict):
    role: Annotated[str, Field(pattern="^(system|user|assistant)$")]
    text: _Text


class _Candidate(TypedDict):
    call_id: Annotated[str, Field(min_length=1, max_length=_LONGEST_NAME, pattern=_STORABLE)]
    position: _Share
    kept_share: _Share
    route: _Label
    input_class: _Label
    at: _Time
    threshold: _Share
    policy_version: _Count
    tier: Annotated[int, Field(ge=0, le=100, strict=True)]
    model: _Name
    shipped: Annotated[bool, Field(strict=True)]
    confidence: _Share
    prompt_version: _Name
    response_id: _Name
    trace_id: _Name
    span_id: _Name
    trace_sampled: Annotated[bool, Field(strict=True)]
    turns: Annotated[list[_Turn], Field(max_length=_MOST_TURNS)] | None
    answer: _Text | None
    state: Annotated[str, Field(pattern="^(kept|skipped)$")]
    why: _Name
    # An older router sends none.
    fingerprint: NotRequired[Annotated[str, Field(pattern="^([0-9a-f]{32})?$")]]


class _CandidatesBody(TypedDict):
    process: _Process
    secret: _Secret
    rows: Annotated[list[_Candidate], Field(max_length=_MOST_ROWS)]


_FLUSH: Final = TypeAdapter(_FlushBody)
_CANDIDATES: Final = TypeAdapter(_CandidatesBody)
_NAMES: Final = TypeAdapter(_NamesBody)
_SLICES: Final = TypeAdapter(_SlicesBody)
_JSON: Final = TypeAdapter(dict[str, Any])


def all_routes(_route: str) -> bool:
    """Covers every route."""
    return True


class Join(NamedTuple):
    """The first request of a process, which has no id yet."""

    beat: Heartbeat


class ReadFlush(NamedTuple):
    """A flush, the tag of the policies that its sender knows, and the buckets that are refused, each with the fault."""

    flush: Flush
    knows: str
    refused: list[tuple[list[Any], str]]


def read_flush(body: bytes, *, now: float, covers: Callable[[str], bool] = all_routes) -> Join | ReadFlush:
    """The flush in a body; `now` becomes the time of its heartbeat. Raises BodyError if it is malformed.

    `covers` is whether its sender may send counts of a route. A malformed or refused bucket alone is left out, because
    its sender would otherwise repeat it for ever.
    """
    content, faults = _validated(_FLUSH, body, ("buckets", "totals"))
    if "beat" not in content:
        raise BodyError("needs a heartbeat under the key beat")
    if "process" not in content:
        return Join(_heartbeat("", content["beat"], now))
    if not {"secret", "number"} <= content.keys():
        raise BodyError("needs the keys secret and number")
    identity = Identity(content["process"], content["secret"])
    buckets, totals = content.get("buckets", []), content.get("totals", [])
    refused = [(_key(row), fault) for row, fault in faults["buckets"]]
    counted = {(row["route"], row["input_class"]) for row in totals}
    kept = []
    for row in buckets:
        if trouble := _trouble(row, counted, covers, now):
            refused.append((_key(row), trouble))
        else:
            kept.append(row)
    totals = [row for row in totals if covers(row["route"]) and row["route"] != ALL_ROUTES]
    flush = Flush(
        identity=identity,
        number=content["number"],
        buckets=[_row(row, identity.process) for row in kept],
        totals=[_row(row, identity.process) for row in totals],
        beat=_heartbeat(identity.process, content["beat"], now),
        is_last=content.get("is_last", False),
    )
    return ReadFlush(flush, content.get("knows", ""), refused)


def _trouble(
    row: Mapping[str, Any], counted: Collection[tuple[str, str]], covers: Callable[[str], bool], now: float
) -> str:
    """Why a bucket is refused; '' if it is not."""
    if row["at"] > now + _AHEAD_S:
        return _TOO_LATE
    if row["route"] == ALL_ROUTES:
        return "its route stands for all routes, whose rows are sums"
    if not covers(row["route"]):
        return _OTHER_ROUTE
    return "" if (row["route"], row["input_class"]) in counted else "has no total"


def read_candidates(
    body: bytes, *, now: float, covers: Callable[[str], bool] = all_routes
) -> tuple[Identity, Rows, Rejected]:
    """The sender of candidates, their rows, and those that are refused. Raises BodyError if the body is malformed.

    `covers` is whether the sender may send answers of a route.
    """
    content, faults = _validated(_CANDIDATES, body, ("rows",))
    refused: Rejected = [(row, BodyError(fault)) for row, fault in faults["rows"] if isinstance(row, dict)]
    rows = []
    for row in content["rows"]:
        if row["at"] > now + _AHEAD_S:
            refused.append((row, BodyError(_TOO_LATE)))
        elif not covers(row["route"]):
            refused.append((row, BodyError(_OTHER_ROUTE)))
        else:
            rows.append(row)
    return Identity(content["process"], content["secret"]), rows, refused


def read_names(body: bytes) -> list[Name]:
    """The names to admit, without malformed ones. Raises BodyError if more is malformed."""
    content, _ = _validated(_NAMES, body, ("names",))
    return [Name(*each) for each in content["names"] if each[0] != ALL_ROUTES]


class ReadAsks(NamedTuple):
    """A request for slices of budgets: the process that holds them, the request's number, and what it says."""

    holder: str
    number: int
    asks: list[SliceRequest]


def read_asks(body: bytes, *, covers: Callable[[str], bool] = all_routes) -> ReadAsks:
    """The request for slices in a body, without the budgets of routes that its sender may not send counts of.

    Raises BodyError if it is malformed.
    """
    content, _ = _validated(_SLICES, body, ())
    asks = []
    for each in content["asks"]:
        try:
            name = BudgetName.read(each["budget"])
        except ValueError as error:
            raise BodyError(str(error)) from None
        if name.of != "route" or covers(name.name):
            asks.append(SliceRequest(**each))
    return ReadAsks(content["holder"], content["number"], asks)


def _validated(
    form: TypeAdapter[Any], body: bytes, lists: tuple[str, ...]
) -> tuple[Any, Mapping[str, list[tuple[Any, str]]]]:
    """The body without the malformed rows of `lists`, and those rows. Raises BodyError if more is malformed."""
    faults: dict[str, list[tuple[Any, str]]] = {name: [] for name in lists}
    try:
        return form.validate_json(body), faults
    except ValidationError as error:
        # Without the input, which may be content or a secret.
        found = error.errors(include_url=False, include_input=False, include_context=False)
    # Once more without the malformed rows: this way is rare, so it may be slow.
    wrong: dict[str, dict[int, str]] = {name: {} for name in lists}
    for fault in found:
        place = fault["loc"]
        if len(place) < 2 or place[0] not in wrong or not isinstance(place[1], int):  # noqa: PLR2004 - list and row
            raise BodyError(f"{'.'.join(map(str, place)) or 'the body'}: {fault['msg']}")
        wrong[str(place[0])].setdefault(place[1], f"{'.'.join(map(str, place[2:]))}: {fault['msg']}")
    content = _JSON.validate_json(body)
    for name, faulty in wrong.items():
        faults[name] = [(content[name][index], fault) for index, fault in faulty.items()]
        content[name] = [row for index, row in enumerate(content.get(name, [])) if index not in faulty]
    try:
        return form.validate_python(content), faults
    except ValidationError:
        raise BodyError("is malformed") from None


def _key(row: Any) -> list[Any]:
    """Route, input class and second of a bucket, as its sender knows it."""
    return [row.get("route"), row.get("input_class"), row.get("at")] if isinstance(row, dict) else [None, None, None]


def _row(counts: Mapping[str, Any], process: str) -> dict[str, Any]:
    return {**_EMPTY, **counts, "process": process}


def _heartbeat(process: str, beat: Mapping[str, Any], now: float) -> Heartbeat:
    return Heartbeat(process=process, kind="router", seen_at=now, **beat)
