"""What a start costs: `python tests/bench/coldstart.py` prints one table.

CPU of a new process, of all its threads, in milliseconds: the median of its runs, in turns. All rows but the first are
beyond `import anthropic`, which the same process has done before, because processes differ by more than a router takes.
Bytecode is compiled, and the store has its tables. The last row makes the SDK's client too, which a router needs: the
row before it shows what that alone costs.
"""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

RUNS = 7
FIRST = "import anthropic"
STARTS = {
    "import Router": "from cheapdeep_ops import Router",
    "Anthropic()": "anthropic.Anthropic(api_key='any').messages",
    "Router(), first flush": "from cheapdeep_ops import Router\nRouter(api_key='any').close()",
}
MEASURED = """
import os, time, anthropic
imported = time.process_time()
{code}
print(imported * 1000, (time.process_time() - imported) * 1000, flush=True)
os._exit(0)
"""


def cpu_ms(code: str, store_url: str) -> tuple[float, float]:
    """CPU of a process until anthropic is imported, and from there on until it has run `code`."""
    own = {"CHEAPDEEP_STORE_URL": store_url, "PYTHONPATH": str(Path(__file__).parents[2])}
    # An installed package has bytecode; without it, a third of an import would be compiling.
    environment = {**os.environ, **own, "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-c", MEASURED.format(code=code)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    imported, beyond = map(float, done.stdout.split())
    return imported, beyond


def main() -> None:
    """Print the table."""
    spent: dict[str, list[float]] = {name: [] for name in (FIRST, *STARTS)}
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder)}/store.db"
        for run in range(RUNS + 1):
            for name, code in STARTS.items():
                imported, beyond = cpu_ms(code, url)
                if run:  # the first one compiles, and makes the store
                    spent[FIRST].append(imported)
                    spent[name].append(beyond)
    print(f"{'':24}{'CPU ms':>8}{'least':>8}")
    for name, each in spent.items():
        print(f"{name:24}{median(each):>8.0f}{min(each):>8.0f}")


if __name__ == "__main__":
    sys.exit(main())
