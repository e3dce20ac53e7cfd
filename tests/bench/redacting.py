"""How long the redaction of a long text holds up other threads: the longest step that runs in C without a pause.

A step is one call of a function in C (a search, a replacement), measured in CPU time of its thread. Python lets other
threads run between such calls. Shown are milliseconds for the whole text, for the longest step, and what that step is.
"""

import sys
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from cheapdeep_ops.redaction import redact
from tests.test_copies import ORDINARY
from tests.test_redaction import HOSTILE

SIZE: Final = 750_000
SMALL: Final = 60_000
"""The size of hostile texts: each of their steps sees a slice, however long the text is."""


def longest_step(text: str) -> tuple[float, str]:
    """The CPU milliseconds of the longest call in C, and its function."""
    began, longest = 0, (0.0, "")

    def see(_frame: object, event: str, called: object) -> None:
        nonlocal began, longest
        if event == "c_call":
            began = time.thread_time_ns()
        elif event in ("c_return", "c_exception") and began:
            longest = max(longest, ((time.thread_time_ns() - began) / 1e6, getattr(called, "__qualname__", "?")))
            began = 0

    sys.setprofile(see)
    try:
        redact(text)
    finally:
        sys.setprofile(None)
    return longest


def main() -> None:
    """Print the table."""
    redact("once, to compile the patterns")
    texts = {name: (piece * SIZE)[:SIZE] for name, piece in ORDINARY.items()}
    texts |= {repr(unit): unit * (SMALL // len(unit)) for unit in HOSTILE}
    print("| text | ms | longest step, ms | step |")
    print("| --- | ---: | ---: | --- |")
    for name, text in texts.items():
        began = time.thread_time_ns()
        redact(text)
        whole = (time.thread_time_ns() - began) / 1e6
        step, function = min(longest_step(text) for _ in range(2))
        print(f"| {name} | {whole:.0f} | {step:.2f} | {function} |")


if __name__ == "__main__":
    main()
