import inspect
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cheapdeep_ops
import cheapdeep_ops.testing
from cheapdeep_ops import errors
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.values import Exchange, Hop, Outcome, TextTurn, Tier
from tests.test_recorder import decision

CHEAP = Tier(model="claude-haiku-4-5", index=0, is_deep=False)
PACKAGES = [cheapdeep_ops, cheapdeep_ops.testing]
HEAVY = (
    "apscheduler", "fastapi", "genai_prices", "google", "grpc", "html", "markdown_it", "nicegui",
    "opentelemetry.exporter", "opentelemetry.sdk", "prometheus_client", "psycopg", "pydantic_settings", "requests",
    "rich", "slack_sdk", "sqlalchemy", "sqlmodel", "starlette", "typer", "uvicorn", "yaml",
)  # fmt: skip

each_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)


def public(package):
    return {name: getattr(package, name) for name in package.__all__}


def members(owner):
    """The public functions and properties that a class defines itself."""
    for name, value in vars(owner).items():
        plain = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if not name.startswith("_") and (inspect.isfunction(plain) or isinstance(plain, property)):
            yield f"{owner.__name__}.{name}", plain


@each_package
def test_all_is_sorted_and_complete(package):
    assert package.__all__ == sorted(set(package.__all__))
    public(package)  # so that names that load late are there
    found = {name for name, value in vars(package).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert found - {"TYPE_CHECKING", "Any", "Final", "import_module", "require"} == set(package.__all__)
    assert all(getattr(package, name).__name__ == name for name in package.__all__ if name != "CLASSES")
    with pytest.raises(AttributeError):
        _ = package.Nonsense


@each_package
def test_everything_public_says_what_it_promises(package):
    assert package.__doc__
    found = {name: value for name, value in public(package).items() if inspect.isclass(value)}
    found |= {name: member for owner in list(found.values()) for name, member in members(owner)}
    assert [name for name, value in found.items() if not inspect.getdoc(value)] == []
    assert [name for name, value in found.items() if not (value.__doc__ or "").strip()] == []


def test_the_contract_of_names_holds():
    assert {"Router", "AsyncRouter", "Settings", "SettingsError"} <= set(cheapdeep_ops.__all__)
    assert {"SimulatedAnthropic", "SimulatedSlack", "FrozenClock"} <= set(cheapdeep_ops.testing.__all__)


def test_every_error_is_public_and_has_the_one_root():
    own = {value for value in vars(errors).values() if inspect.isclass(value)}
    assert all(issubclass(error, errors.CheapdeepError) for error in own)
    assert {error.__name__ for error in own} <= set(cheapdeep_ops.__all__)


def test_the_package_is_typed():
    assert (Path(cheapdeep_ops.__file__).parent / "py.typed").is_file()


def test_importing_the_router_loads_nothing_that_only_others_need():
    code = "import sys; from cheapdeep_ops import AsyncRouter, Router; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "cheapdeep_ops.router.synchronous" in loaded
    assert [name for name in loaded if name.startswith(HEAVY)] == []


BUILDS = """
from anthropic.types import ParsedMessage
from cheapdeep_ops import AsyncRouter, Router
from cheapdeep_ops.pricing import PriceOverride
print(ParsedMessage.__subclasses__(), PriceOverride.__pydantic_complete__)
"""


def test_importing_the_router_makes_pydantic_build_no_models():
    done = subprocess.run([sys.executable, "-c", BUILDS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "False"]


RECORDS = """
import pickle, sys
from cheapdeep_ops import Router, Settings
router = Router(api_key="any", settings=Settings(store_url=sys.argv[1], sample_rate=1))
decision, exchange = pickle.loads(bytes.fromhex(sys.argv[2]))
router._core.recorder.put(decision, lambda: exchange)
router.close()
print(*sorted(sys.modules))
"""


@pytest.mark.thorough
@pytest.mark.parametrize("is_current", [True, False])
def test_only_a_store_without_tables_makes_a_router_load_the_libraries_for_them(store_url, is_current):
    store = Store(store_url)
    if is_current:
        migrate(store)
    hop = Hop(tier=CHEAP, usage=None, cost_usd=None, outcome=Outcome.SHIP, base_outcome=Outcome.SHIP)
    exchange = Exchange(turns=(TextTurn(role="user", text="May I?"),), answer="You may.")
    recorded = pickle.dumps((decision(at=time.time(), hops=(hop,), error=""), exchange)).hex()
    done = subprocess.run(
        [sys.executable, "-c", RECORDS, store_url, recorded], capture_output=True, text=True, check=True
    )
    with store.reading() as connection:
        assert connection.exec_driver_sql("SELECT answer FROM candidate").scalars().all() == ["You may."]
        assert connection.exec_driver_sql("SELECT calls FROM bucket").scalars().all() == [1]
    store.close()
    loaded = done.stdout.split()
    for name in ("sqlalchemy", "sqlmodel"):
        assert (name in loaded) == (not is_current)
    assert "alembic" not in loaded
