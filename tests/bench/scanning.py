"""What the search for copied verdicts costs on the caller's thread: by script, and for text made to cost much.

Shown are characters, CPU milliseconds for 100 kB and for 800 kB (the longest request that is triaged), the time for a
character as a ratio to English, and what was found: `none`, `spelled`, or `unclear` (not triaged).
"""

import sys
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from cheapdeep_ops.verdict import prepare, verdict_in
from tests.test_copies import HOSTILE, ORDINARY, WITH_ESCAPES, of_size

SIZE, LONGEST = 100_000, 800_000
ROUNDS: Final = 7


def cpu_ms(text: str) -> float:
    """The least CPU time of some rounds, in milliseconds."""
    return min(_once(text) for _ in range(ROUNDS))


def _once(text: str) -> float:
    began = time.process_time_ns()
    verdict_in(text)
    return (time.process_time_ns() - began) / 1e6


def main() -> None:
    """Print the table."""
    began = time.process_time_ns()
    prepare()
    print(f"made once, with the first router: {(time.process_time_ns() - began) / 1e6:.0f} ms\n")
    english = of_size(ORDINARY["English"], SIZE)
    base = cpu_ms(english) / len(english)
    print("| text | characters | ms for 100 kB | ms for 800 kB | a character, to English | found |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    for name, piece in (ORDINARY | WITH_ESCAPES | HOSTILE).items():
        text, longest = of_size(piece, SIZE), of_size(piece, LONGEST)
        each, all_of_it = cpu_ms(text), cpu_ms(longest)
        ratio = each / len(text) / base
        found = f"{verdict_in(text).name.lower()}, {verdict_in(longest).name.lower()}"
        print(f"| {name} | {len(text):,} | {each:.2f} | {all_of_it:.1f} | {ratio:.1f} | {found} |")


if __name__ == "__main__":
    main()
