"""One line of a service changes, and the service type-checks and runs as it did: tests/typing/swap.py, with both."""

import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from inspect import signature
from pathlib import Path

import anthropic
import pytest

from cheapdeep_ops import AsyncRouter, Router
from cheapdeep_ops.claude.params import AsyncClientOptions, CallParams, ClientOptions
from cheapdeep_ops.testing import Reply

ROOT = Path(__file__).parents[1]
SERVICE, SLIPS, API = (ROOT / "tests" / "typing" / name for name in ("swap.py", "slips.py", "api.py"))
LINE = "from anthropic import Anthropic, AsyncAnthropic"
INSTEAD = "from cheapdeep_ops import AsyncRouter as AsyncAnthropic, Router as Anthropic"
TICKET = '{"subject": "Order", "urgent": true}'
ASKED = "Where is my order?"


def swap(path, folder):
    """The file with the routers in the place of the SDK's clients."""
    text, count = re.subn(f"^{LINE}$", INSTEAD, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert count == 1
    swapped = folder / f"swapped_{path.name}"
    swapped.write_text(text, encoding="utf-8")
    return swapped


@pytest.fixture
def swapped(tmp_path):
    return swap(SERVICE, tmp_path)


@pytest.fixture
def slips(tmp_path):
    """Slips in calls of the SDK's clients, and the same in calls of the routers."""
    return [SLIPS, swap(SLIPS, tmp_path)]


@pytest.fixture
def service(request, swapped, api, monkeypatch, store_url):
    monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "simulated")
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", store_url)
    api.always(lambda asked: Reply.triage(0.95, TICKET) if asked.is_triage else Reply.text(TICKET))
    spec = spec_from_file_location("service", SERVICE if request.param == "sdk" else swapped)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checked(*command):
    return subprocess.run([*command], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def mypy(*paths):
    return checked(sys.executable, "-m", "mypy", "--strict", *map(str, paths))


def pyright(*paths):
    if not (command := os.environ.get("PYRIGHT")):
        pytest.skip("Pyright is not installed: PYRIGHT names its command, as in .ci/run")
    return checked(command, "--warnings", "--pythonpath", sys.executable, *map(str, paths))


def found(said, path):
    """The lines of a file in which a checker has found an error."""
    return {int(line) for line in re.findall(rf"/{path.name}:(\d+):(?:\d+ -)? error", said)}


@pytest.mark.thorough
def test_mypy_in_strict_mode_finds_nothing_with_the_sdk_and_with_the_routers(swapped):
    done = mypy(SERVICE, swapped)
    assert (done.returncode, done.stdout) == (0, "Success: no issues found in 2 source files\n"), done.stdout


@pytest.mark.thorough
def test_pyright_finds_nothing_with_the_sdk_and_with_the_routers(swapped):
    done = pyright(SERVICE, swapped, API)
    assert (done.returncode, done.stdout) == (0, "0 errors, 0 warnings, 0 informations\n"), done.stdout


@pytest.mark.thorough
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_slip_that_is_found_with_the_sdk_is_found_with_the_routers(checker, slips):
    lines = SLIPS.read_text(encoding="utf-8").splitlines()
    marked = {number for number, line in enumerate(lines, start=1) if line.endswith("# slip")}
    said = checker(*slips).stdout
    assert [found(said, path) for path in slips] == [marked, marked]


def test_the_routers_take_what_the_sdk_takes():
    """A newer SDK has more, most likely: it belongs into `CallParams`."""
    named = set(signature(anthropic.resources.Messages.create).parameters) - {
        "self",
        "max_tokens",
        "messages",
        "stream",
    }
    assert set(CallParams.__annotations__) == named | {"conversation"}


@pytest.mark.parametrize(
    ("client", "options"), [(anthropic.Anthropic, ClientOptions), (anthropic.AsyncAnthropic, AsyncClientOptions)]
)
def test_the_routers_are_made_with_what_the_sdks_clients_are_made_with(client, options):
    named = {name for name in signature(client.__init__).parameters if name != "self" and not name.startswith("_")}
    assert options.__optional_keys__ == named


@pytest.mark.parametrize("service", ["sdk", "router"], indirect=True)
def test_the_service_runs_and_says_the_same_with_the_sdk_and_with_the_router(service):
    with service.Anthropic() as client:
        desk = service.Desk(client)
        messages = [desk.answer(ASKED), desk.answer_from_params(ASKED), desk.answer_about_a_picture()]
        messages += [desk.with_tools(ASKED), desk.written(ASKED)]
        assert [service.text_of(message) for message in messages] == [TICKET] * 5
        assert desk.answer_in_any_way(ASKED, stream=False) == desk.written_as_events(ASKED) == TICKET
        assert desk.answer_in_any_way(ASKED, stream=True).split()[0] == "message_start"
        assert "".join(desk.pieces(ASKED)) == TICKET
        assert desk.ticket(ASKED) == desk.written_ticket(ASKED) == service.Ticket(subject="Order", urgent=True)
        assert desk.size(ASKED) > 0
        assert desk.model().id in desk.known()
        assert desk.of_the_night(desk.over_night(ASKED)) == [TICKET]
        message, request_id = desk.with_headers(ASKED)
        assert service.text_of(message) == TICKET
        assert request_id.startswith("req_")
        assert desk.experimental(ASKED).content[0].text == TICKET


@pytest.mark.parametrize("service", ["sdk", "router"], indirect=True)
async def test_the_service_runs_and_says_the_same_with_the_sdk_and_with_the_router_for_asyncio(service):
    async with service.AsyncAnthropic() as client:
        desk = service.AsyncDesk(client)
        messages = [await desk.answer_from_params(ASKED), await desk.answer_about_a_picture()]
        messages += [await desk.with_tools(ASKED), await desk.written(ASKED), *await desk.answers([ASKED, ASKED])]
        assert [service.text_of(message) for message in messages] == [TICKET] * 6
        assert "".join([piece async for piece in desk.pieces(ASKED)]) == TICKET
        assert await desk.ticket(ASKED) == service.Ticket(subject="Order", urgent=True)
        assert await desk.size(ASKED) > 0
        assert (await desk.model()).id in await desk.known()
        assert await desk.of_the_night(await desk.over_night(ASKED)) == [TICKET]
        assert (await desk.experimental(ASKED)).content[0].text == TICKET


@pytest.mark.parametrize("service", ["sdk", "router"], indirect=True)
def test_the_service_catches_the_same_errors_with_the_sdk_and_with_the_router(service, api):
    with service.Anthropic() as client:
        desk = service.Desk(client.with_options(max_retries=0))
        assert desk.outcome(ASKED) == "answered"
        for status, outcome in ((429, "later"), (529, "never"), (400, "never")):
            api.always(Reply.error(status))
            assert desk.outcome(ASKED) == outcome
        api.always(Reply.text("").cut(after_bytes=3))
        assert desk.outcome(ASKED) == "offline"


@pytest.mark.parametrize("service", ["router"], indirect=True)
def test_the_swapped_service_is_routed(service, api):
    assert (service.Anthropic, service.AsyncAnthropic) == (Router, AsyncRouter)
    with service.Anthropic() as client:
        service.Desk(client).answer_from_params(ASKED)
    assert [request.model for request in api.requests] == ["claude-haiku-4-5"]
