"""That `overhead.py` prints figures, and that its simulated API is answered as the real one; not how fast that is."""

import importlib
import inspect
import math
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import anthropic
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Histogram, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

pytestmark = pytest.mark.thorough
HERE = Path(__file__).parent
HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
MODULES = ("overhead_server", "overhead_loop", "overhead_peers", "overhead_report", "overhead_worker", "overhead")
TRANSPORTS = ("aiohttp", "default", "sync")


@pytest.fixture(scope="module")
def bench():
    """The bench beside this file: scripts, not modules of a package."""
    sys.path.insert(0, str(HERE))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    sys.path.remove(str(HERE))
    for name in MODULES:
        del sys.modules[name]


@pytest.fixture(scope="module")
def url(bench):
    with bench.overhead.simulated_api() as url:
        yield url


async def called(variant, times=1):
    """What the last of so many calls returned. The client is closed."""
    for _ in range(times):
        made = await answered(variant.call)
    await answered(variant.close)
    return made


async def answered(act):
    made = act()
    return await made if inspect.isawaitable(made) else made


# The simulated API


def test_the_sdk_reads_the_answers(bench, url):
    with anthropic.Anthropic(base_url=url, api_key="any") as client:
        asked = {"model": OPUS, **bench.overhead_loop.request("bare")}
        whole = client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            texts = list(stream.text_stream)
            streamed = stream.get_final_message()
    assert whole.content[0].text == streamed.content[0].text == "".join(texts) == bench.overhead_server.ANSWER
    assert len(texts) > 10
    for message in (whole, streamed):
        assert (message.usage.input_tokens, message.usage.output_tokens) == (610, 240)
        assert message.stop_reason == "end_turn"


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", ["shipped", "escalated", "bypassed", "streamed", "helper", "bare"])
async def test_each_variant_gets_the_answer_of_the_tier_it_is_named_for(bench, url, tmp_path, kind, transport):
    message = await called(bench.overhead_worker.made(f"{kind}/{transport}", url, str(tmp_path)))
    assert message.model == (HAIKU if kind in {"shipped", "streamed"} else OPUS)
    assert message.content[0].text == bench.overhead_server.ANSWER


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", ["streamed-events", "events"])
async def test_each_variant_of_events_reads_to_the_last_one(bench, url, tmp_path, kind, transport):
    last = await called(bench.overhead_worker.made(f"{kind}/{transport}", url, str(tmp_path)))
    assert last.type == "message_stop"


# The floor


async def test_the_floor_has_the_signals_of_a_shipped_call(bench, url, tmp_path, monkeypatch):
    found = {}
    for variant in ("floor/default", "shipped/default"):
        spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
        telemetry = SimpleNamespace(tracers=TracerProvider(), meters=MeterProvider([reader]), flush=lambda: None)
        telemetry.tracers.add_span_processor(SimpleSpanProcessor(spans))
        monkeypatch.setattr(bench.overhead_worker, "Telemetry", lambda telemetry=telemetry: telemetry)
        # The router's first call finds out how it may send.
        await called(bench.overhead_worker.made(variant, url, str(tmp_path)), times=2)
        ended = [(span.name, span.kind, set(span.attributes)) for span in spans.get_finished_spans()[-2:]]
        found[variant] = (ended, histograms(reader))
    assert found["floor/default"] == found["shipped/default"]
    assert sum(len(points) for points in found["floor/default"][1].values()) == 6


def histograms(reader):
    """The label names of each point of each histogram."""
    scopes = [scope for resource in reader.get_metrics_data().resource_metrics for scope in resource.scope_metrics]
    metrics = [metric for scope in scopes for metric in scope.metrics if isinstance(metric.data, Histogram)]
    return {metric.name: sorted(sorted(point.attributes) for point in metric.data.data_points) for metric in metrics}


# A run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A very short run of some rows, as a user starts it."""
    folder = tmp_path_factory.mktemp("overhead")
    options = ("--rounds", "2", "--seconds", "0.05", "--only", "bare/sync,bypassed/sync", "--plot", folder / "it.svg")
    return SimpleNamespace(folder=folder, printed=started(*options, "--json", folder / "it.json"))


def started(*options):
    command = [sys.executable, HERE / "overhead.py", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def ratios(text):
    return [float(each) for each in re.findall(r"(\d+\.\d\d) \(\d", text)]


def test_a_run_prints_finite_ratios_and_where_they_are_from(run):
    lines = run.printed.splitlines()
    assert [line.split()[0] for line in lines if ratios(line)] == ["bypassed/sync", "bare/sync"]
    found = ratios(run.printed)
    assert len(found) == 4
    assert all(math.isfinite(ratio) and 0.05 < ratio < 20 for ratio in found)
    assert all(f"{name} " in run.printed for name in ("anthropic", "httpx2", "opentelemetry-sdk", "cores, load"))


def test_an_earlier_run_is_shown_again(run):
    again = run.folder / "again.svg"
    assert started("--from", run.folder / "it.json", "--plot", again) == run.printed
    assert again.read_bytes() == (run.folder / "it.svg").read_bytes()


def test_the_picture_has_a_bar_for_each_ratio(run):
    svg = "{http://www.w3.org/2000/svg}"
    root = ET.parse(run.folder / "it.svg").getroot()
    bars = [bar for bar in root.iter(f"{svg}rect") if bar.get("height") == "11" and bar.get("width") != "11"]
    widths = [float(bar.get("width")) for bar in bars]
    (line,) = root.iter(f"{svg}line")
    scale = float(line.get("x1")) - float(bars[0].get("x"))
    assert [width / scale for width in widths] == pytest.approx(ratios(run.printed), abs=0.01)


def test_figures_are_put_between_the_markers_of_the_readme_again_and_again(bench, run):
    results = bench.overhead_report.Results.read(run.folder / "it.json")
    before = (HERE / "README.md").read_text("utf-8")
    once = bench.overhead_report.put_between(before, bench.overhead_report.markdown(results))
    assert ratios(once) == ratios(run.printed)
    assert once.partition("<!-- overhead")[0] == before.partition("<!-- overhead")[0]
    assert once.partition("<!-- /overhead")[2] == before.partition("<!-- /overhead")[2]
    assert bench.overhead_report.put_between(once, bench.overhead_report.markdown(results)) == once
    with pytest.raises(ValueError, match="overhead"):
        bench.overhead_report.put_between("no markers", iter(()))


def test_a_ratio_compares_variants_of_one_round(bench):
    figures = {"escalated/sync": {"1": [30.0, 44.0, 90.0]}, "bare/sync": {"1": [10.0, 20.0, 30.0]}}
    results = bench.overhead_report.Results(date="", machine="", load=0, rounds=3, seconds=1, seed=0, figures=figures)
    row = bench.overhead_report.Row("escalated/sync", ("bare/sync", "bare/sync"))
    assert results.ratios(row, 1) == [1.5, 1.1, 1.5]
    assert bench.overhead_report.spread_of(results.ratios(row, 1)) == "1.50 (1.10-1.50)"


# What is not installed


@pytest.mark.skipif(find_spec("opentelemetry.instrumentation") is not None, reason="add-ons may be installed here")
def test_what_is_not_installed_is_said_in_its_row(bench, monkeypatch):
    def fail():
        raise subprocess.CalledProcessError(1, ["pip"])

    monkeypatch.setattr(bench.overhead_peers, "installed", fail)
    monkeypatch.setenv("INSTRUMENTED_PYTHON", sys.executable)
    variants = ["bare/default", "bare/default/add-on", "litellm/aiohttp"]
    results = bench.overhead.measure(variants, rounds=1, seconds=0.05, seed=0)
    assert set(results.missing) == {"bare/default/add-on", "litellm/aiohttp"}
    lines = [line for line in bench.overhead_report.table(results) if "not installed" in line]
    assert [line.split()[0] for line in lines] == ["bare/default/add-on", "litellm/aiohttp"]
    rows = [line for line in bench.overhead_report.markdown(results) if line.startswith("|")]
    assert {line.count("|") for line in rows} == {8}
    ET.fromstring(bench.overhead_report.plot(results))


def test_every_package_of_the_peers_is_one_version_with_hashes(bench):
    text = "\n".join(
        line for line in bench.overhead_peers.REQUIREMENTS.read_text("utf-8").splitlines() if line[:1] != "#"
    )
    packages = re.split(r"\n(?=\S)", text)
    assert all(re.match(r"[\w.-]+==\S+ ", package) and "--hash=sha256:" in package for package in packages)
    (litellm,) = (package.split()[0] for package in packages if package.startswith("litellm=="))
    assert litellm.partition("==")[2] not in {"1.82.7", "1.82.8", "1.107.0"}
