"""What a start costs: `python tests/bench/coldstart.py` prints one table.

CPU of a new process, of all its threads, in milliseconds: the median of its runs, in turns, and beyond that of `import
anthropic`. Bytecode is compiled, and the store has its tables. The last row makes the SDK's client too, which a router
needs: the row before it shows what that alone costs.
"""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

RUNS = 7
SHOWS_CPU = "\nimport os, time; print(time.process_time() * 1000, flush=True); os._exit(0)"
STARTS = {
    "import anthropic": "import anthropic",
    "import Router": "from cheapdeep_ops import Router",
    "import anthropic, then Router": "import anthropic\nfrom cheapdeep_ops import Router",
    "Anthropic()": "import anthropic\nanthropic.Anthropic(api_key='any').messages",
    "Router(), first flush": "from cheapdeep_ops import Router\nRouter(api_key='any').close()",
}
FIRST = next(iter(STARTS))


def cpu_ms(code: str, store_url: str) -> float:
    """CPU of a process that runs `code`."""
    own = {"CHEAPDEEP_STORE_URL": store_url, "PYTHONPATH": str(Path(__file__).parents[2])}
    # An installed package has bytecode; without it, a third of an import would be compiling.
    environment = {**os.environ, **own, "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-c", code + SHOWS_CPU]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Print the table."""
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder)}/store.db"
        spent: dict[str, list[float]] = {name: [] for name in STARTS}
        for run in range(RUNS + 1):
            for name, code in STARTS.items():
                took = cpu_ms(code, url)
                if run:  # the first one compiles, and makes the store
                    spent[name].append(took)
    print(f"{'':32}{'CPU ms':>8}{'beyond':>8}{'least':>8}")
    for name, each in spent.items():
        beyond = median(each) - median(spent[FIRST])
        print(f"{name:32}{median(each):>8.0f}{beyond:>8.0f}{min(each):>8.0f}")


if __name__ == "__main__":
    sys.exit(main())
