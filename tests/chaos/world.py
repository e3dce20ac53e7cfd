"""The processes of one run: a primary and its standby, three guards behind one address, and eight services."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from cheapdeep_ops.access.tokens import hash_of, new_secret
from cheapdeep_ops.testing import SimulatedAnthropic, SimulatedSlack
from tests.chaos.balancer import Balancer
from tests.chaos.stepped_clock import VARIABLE
from tests.patience import PATIENCE_S
from tests.ports import free_port
from tests.postgres import Server, packages, running

RULES: Final = """
rules:
  - alert: EscalationStorm
    signal: base_escalation_rate
    limit: max_escalation_rate
    windows: {long: 10s, short: 3s}
    min_calls: 40
    min_seconds: 3
    for: 0s
    keep_firing_for: 3s
    actions: [notify, raise_threshold]
"""
FLUSH_S: Final = 1.0
GUARDS: Final = 3
SERVICES: Final = 8
CHANNEL: Final = "C0CHAOS"
LIFE: Final = 1_000_000
"""The distance between the first call numbers of two lives, so that each question of a run is its own."""


@dataclass
class Running:
    """A process of the run, with the file that holds its clock's offset."""

    name: str
    clock: Path
    process: "subprocess.Popen[str]"
    log: Path
    lives: int = 1
    is_frozen: bool = False

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None


@dataclass
class Killed:
    """A service that was killed: its life, and when (monotonic clock)."""

    name: str
    life: int
    at: float


@dataclass
class World:
    """Everything that runs, and what the audit needs to know of it."""

    folder: Path
    primary: Server
    standby: Server
    api: SimulatedAnthropic
    slack: SimulatedSlack
    balancer: Balancer
    ports: list[int]
    rate: float
    token: str
    guards: list[Running] = field(default_factory=list)
    services: list[Running] = field(default_factory=list)
    killed: list[Killed] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    has_failed_over: bool = False
    traffic: str = "faq"
    on_message: Callable[[object], None] | None = None
    """Called when Slack has taken a message, before it answers."""
    begun: float = field(default_factory=time.monotonic)

    # --- what runs -------------------------------------------------------------------------------------------------

    @property
    def store_url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.primary.folder},{self.standby.folder}"

    def environment(self, clock: Path, **changes: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CHEAPDEEP_", "OTEL_"))}
        clock.write_text("0")
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join(sys.path),
            VARIABLE: str(clock),
            "ANTHROPIC_BASE_URL": self.api.url,
            "ANTHROPIC_API_KEY": "simulated",
            "CHEAPDEEP_STORE_URL": self.store_url,
            "CHEAPDEEP_RULES_FILE": str(self.folder / "rules.yaml"),
            "CHEAPDEEP_EVALUATE_EVERY_S": "1",
            "CHEAPDEEP_GRADE_EVERY_S": "1",
            "CHEAPDEEP_SAMPLE_RATE": "0.2",
            "CHEAPDEEP_FLUSH_EVERY_S": str(FLUSH_S),
            "CHEAPDEEP_SLACK_BOT_TOKEN": self.slack.token,
            "CHEAPDEEP_SLACK_CHANNEL": CHANNEL,
            "CHEAPDEEP_SLACK_BASE_URL": self.slack.url,
            "CHEAPDEEP_API_TOKENS": "an-operator-of-this-run",
            "CHEAPDEEP_API_TOKENS_FILE": str(self.folder / "tokens.toml"),
            **changes,
        }

    def start_guard(self, index: int) -> None:
        name, clock = f"guard{index}", self.folder / f"guard{index}.clock"
        environment = self.environment(clock, CHEAPDEEP_PORT=str(self.ports[index]))
        log = self.folder / f"{name}.log"
        with log.open("ab") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.guard_process"], env=environment, stderr=stderr, text=True
            )
        lives = self.guards[index].lives + 1 if index < len(self.guards) else 1
        self.guards[index : index + 1] = [Running(name, clock, process, log, lives)]

    def start_service(self, index: int) -> None:
        life = self.services[index].lives + 1 if index < len(self.services) else 1
        by_http = index >= SERVICES // 2
        name, clock = f"service{index}", self.folder / f"service{index}.clock"
        changes = {}
        if by_http:
            changes = {
                "CHEAPDEEP_STORE_URL": f"http://127.0.0.1:{self.balancer.port}",
                "CHEAPDEEP_GUARD_TOKEN": self.token,
            }
        environment = self.environment(clock, **changes)
        log = self.folder / f"{name}-{life}.calls"
        log.touch()
        first = (index * 100 + life) * LIFE
        command = [sys.executable, "-m", "tests.chaos.service_process", "sales" if by_http else "support"]
        with (self.folder / f"{name}.log").open("ab") as stderr:
            process = subprocess.Popen(
                [*command, str(log), str(self.rate), str(first)],
                env=environment, stdin=subprocess.PIPE, stderr=stderr, text=True,
            )  # fmt: skip
        self.services[index : index + 1] = [Running(name, clock, process, log, life)]
        self._tell(self.services[index])

    def revive(self) -> None:
        """Start the guards again that have ended, as a supervisor does: one that finds no store at its start ends."""
        for index, guard in enumerate(self.guards):
            if not guard.is_alive:
                self.start_guard(index)

    def kill_service(self, index: int) -> None:
        service = self.services[index]
        service.signal(signal.SIGKILL)
        service.process.wait(PATIENCE_S)
        self.killed.append(Killed(service.name, service.lives, time.monotonic()))
        _close(service)

    def kill_guard(self, index: int) -> None:
        self.guards[index].signal(signal.SIGKILL)
        self.guards[index].process.wait(PATIENCE_S)

    def say(self, traffic: str) -> None:
        self.traffic = traffic
        self.note(f"traffic: {traffic}")
        for service in self.services:
            if service.is_alive:
                self._tell(service)

    def _tell(self, service: Running) -> None:
        assert service.process.stdin is not None
        # A service that is being killed hears nothing; its next life is told.
        with contextlib.suppress(OSError, ValueError):
            service.process.stdin.write(self.traffic + "\n")
            service.process.stdin.flush()

    def step_clock(self, running: Running, offset_s: float) -> None:
        running.clock.write_text(str(offset_s))
        running.signal(signal.SIGUSR1)

    def heard(self, message: object) -> None:
        if self.on_message is not None:
            self.on_message(message)

    def note(self, text: str) -> None:
        self.notes.append(f"{time.monotonic() - self.begun:6.1f} s  {text}")
        print(self.notes[-1], file=sys.stderr, flush=True)

    # --- what it says ----------------------------------------------------------------------------------------------

    @property
    def database(self) -> Server:
        return self.standby if self.has_failed_over else self.primary

    def rows(self, query: str) -> list[dict[str, Any]]:
        where = {"host": str(self.database.folder), "port": 5432, "user": "postgres", "dbname": "postgres"}
        with psycopg.connect(**where, options="-csearch_path=cheapdeep", row_factory=dict_row) as connection:
            return connection.execute(query).fetchall()

    def calls(self) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """Every call that a service has logged: the service's name, its life, and the call."""
        for path in sorted(self.folder.glob("service*-*.calls")):
            name, _, life = path.stem.partition("-")
            for line in path.read_text().splitlines():
                yield name, int(life), json.loads(line)

    def fail_over(self) -> None:
        # A clean end of the primary sends all that it has committed to the standby.
        self.primary.stop()
        self.standby.promote()
        self.has_failed_over = True

    def end(self) -> None:
        """End all services, then all guards, as a deploy does."""
        self.say("end")
        for service in self.services:
            service.process.wait(PATIENCE_S)
            _close(service)
        for guard in self.guards:
            guard.signal(signal.SIGTERM)
        for guard in self.guards:
            guard.process.wait(PATIENCE_S)

    def kill_all(self) -> None:
        for each in [*self.services, *self.guards]:
            if each.is_alive:
                each.signal(signal.SIGKILL)
                each.process.wait(PATIENCE_S)
            _close(each)


def _close(running: Running) -> None:
    if running.process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            running.process.stdin.close()


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE_S:g} s for {what}")
        time.sleep(0.1)


@contextlib.contextmanager
def world(folder: Path, *, seed: int, rate: float) -> Iterator[World]:
    """Start everything, and stop it again."""
    installed = packages()
    assert installed is not None
    (folder / "rules.yaml").write_text(RULES)
    token, tokens = new_secret(), folder / "tokens.toml"
    tokens.write_text(f'[[token]]\nname = "services"\nrole = "send"\nhash = "sha256:{hash_of(token)}"\n')
    tokens.chmod(0o600)
    ports = [free_port() for _ in range(GUARDS)]
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(running(installed))
        standby = stack.enter_context(running(installed, primary))
        api = stack.enter_context(SimulatedAnthropic(seed=seed, keep_requests=10**6))
        slack = stack.enter_context(SimulatedSlack(on_message=lambda message: made.heard(message)))  # noqa: PLW0108 - made later
        balancer = stack.enter_context(Balancer(ports))
        made = World(folder, primary, standby, api, slack, balancer, ports, rate, token)
        stack.callback(made.kill_all)
        for index in range(GUARDS):
            made.start_guard(index)
        until(lambda: made.rows("SELECT 1 FROM information_schema.tables WHERE table_name = 'lease'"), "the schema")
        until(lambda: made.rows("SELECT 1 FROM lease WHERE number > 0"), "a guard that acts")
        for index in range(SERVICES):
            made.start_service(index)
        yield made
