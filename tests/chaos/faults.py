"""The faults of a run: each one function of the world and a seeded source of choices. It returns when it is over."""

import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Final

from tests.chaos.world import GUARDS, SERVICES, World

Fault = Callable[[World, random.Random], None]


def acting(world: World) -> int:
    """The guard that acts by the store's lease; the first one if that is not known."""
    found = world.rows("SELECT p.pid FROM lease l JOIN process p ON p.process = l.holder WHERE l.name = 'evaluate'")
    pids = [guard.process.pid for guard in world.guards]
    return pids.index(found[0]["pid"]) if found and found[0]["pid"] in pids else 0


def database_stops(world: World, chance: random.Random) -> None:
    with world.database.stopped():
        time.sleep(chance.uniform(4, 8))


def database_hangs(world: World, chance: random.Random) -> None:
    with world.database.hung():
        time.sleep(chance.uniform(4, 8))


def database_fails_over(world: World, _chance: random.Random) -> None:
    if not world.has_failed_over:
        world.fail_over()
        time.sleep(3)


def acting_guard_dies(world: World, chance: random.Random) -> None:
    index = acting(world)
    world.kill_guard(index)
    time.sleep(chance.uniform(1, 4))
    world.start_guard(index)


def some_guard_dies(world: World, chance: random.Random) -> None:
    index = chance.randrange(GUARDS)
    world.kill_guard(index)
    time.sleep(chance.uniform(0, 2))
    world.start_guard(index)


def acting_guard_freezes(world: World, chance: random.Random) -> None:
    guard = world.guards[acting(world)]
    guard.signal(signal.SIGSTOP)
    time.sleep(chance.uniform(8, 14))
    guard.signal(signal.SIGCONT)


def guards_die_before_their_note(world: World, chance: random.Random) -> None:
    """Kill all guards when Slack has taken a message, before they know it; without a message, after some seconds."""
    taken = threading.Event()

    def on_message(_message: object) -> None:
        if not taken.is_set():
            for index in range(GUARDS):
                world.kill_guard(index)
            taken.set()

    world.on_message = on_message
    taken.wait(60)
    world.on_message = None
    for index in range(GUARDS):
        if not world.guards[index].is_alive:
            world.start_guard(index)
    world.note("guards were killed between Slack's answer and their note" if taken.is_set() else "Slack had no message")


def slack_refuses(world: World, chance: random.Random) -> None:
    world.slack.rate_limit(times=2, retry_after_s=1)
    time.sleep(chance.uniform(1, 3))
    world.slack.fail_with("internal_error", times=2)
    time.sleep(2)


def slack_is_down(world: World, chance: random.Random) -> None:
    with world.slack.outage(close_connections=chance.random() < 0.5):
        time.sleep(chance.uniform(3, 8))


def slack_answers_late(world: World, chance: random.Random) -> None:
    """Slack takes the next messages at once, and answers after the sender has given up."""
    world.on_message = lambda _message: time.sleep(6)
    time.sleep(chance.uniform(5, 9))
    world.on_message = None


def service_dies(world: World, chance: random.Random) -> None:
    index = chance.randrange(SERVICES)
    world.kill_service(index)
    time.sleep(chance.uniform(0.5, 2))
    world.start_service(index)


def clock_steps(world: World, chance: random.Random) -> None:
    each = chance.choice([*world.services, *world.guards])
    offset_s = chance.choice([-3 * 3_600.0, 3 * 3_600.0, 300.0, -300.0])
    world.note(f"the clock of {each.name} is {offset_s:+g} s off")
    world.step_clock(each, offset_s)
    time.sleep(chance.uniform(4, 8))
    world.step_clock(each, 0)


ALL: Final[tuple[Fault, ...]] = (
    acting_guard_dies,
    slack_refuses,
    guards_die_before_their_note,
    service_dies,
    database_stops,
    acting_guard_freezes,
    slack_answers_late,
    clock_steps,
    database_hangs,
    some_guard_dies,
    slack_is_down,
    service_dies,
    database_fails_over,
)


def run_faults(world: World, chance: random.Random, *, until_s: float) -> None:
    """Run all faults in a seeded order; then again and again, until `until_s` on the monotonic clock."""
    is_first = True
    while is_first or time.monotonic() < until_s:
        for fault in chance.sample(ALL, len(ALL)):
            if not is_first and time.monotonic() >= until_s:
                return
            world.note(fault.__name__.replace("_", " "))
            fault(world, chance)
            world.revive()
            time.sleep(chance.uniform(0.5, 2))
        is_first = False
