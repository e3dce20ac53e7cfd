"""What an environment with the base package alone must do; run by `.ci/installed` in an empty folder."""

import contextlib
import sqlite3
import sys
from importlib.metadata import distributions

from anthropic import APIConnectionError

from cheapdeep_ops import Router, Settings

MOST = 34
TOOLS = {"pip", "setuptools", "wheel", "cheapdeep_ops"}


def main() -> None:
    """Count the packages, and have a call recorded that reaches no server."""
    packages = sorted({found.metadata["Name"] for found in distributions()} - TOOLS)
    assert len(packages) <= MOST, packages  # noqa: S101 - a check is what this is
    assert "grpcio" not in packages  # noqa: S101

    settings = Settings(store_url="sqlite:///recorded.db")
    router = Router(settings=settings, base_url="http://127.0.0.1:9", api_key="none", max_retries=0)
    with router, contextlib.suppress(APIConnectionError):
        router.ask("How do I reset my password?")
    with contextlib.closing(sqlite3.connect("recorded.db")) as connection:
        assert connection.execute("SELECT sum(calls) FROM total").fetchone() == (1,)  # noqa: S101
    try:
        import cheapdeep_ops.testing  # noqa: F401, PLC0415
    except ImportError as error:
        assert "pip install 'cheapdeep_ops[testing]'" in str(error)  # noqa: S101, PT017
    else:
        sys.exit("the simulators need no extra?")
    print(f"{len(packages)} packages beside cheapdeep_ops; one call recorded")  # noqa: T201


if __name__ == "__main__":
    main()
