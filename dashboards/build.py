"""Write the boards as Grafana's JSON: `python dashboards/build.py [FOLDER]`, by default beside this file."""

import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

import health
import money
import quality
import routing

BOARDS: dict[str, Dashboard] = {
    "routing": routing.BOARD,
    "money": money.BOARD,
    "quality": quality.BOARD,
    "health": health.BOARD,
}


def main(folder: Path) -> None:
    """Write one file for each board; the same code gives the same bytes."""
    encoder = JSONEncoder(indent=2, sort_keys=True)
    for name, board in BOARDS.items():
        (folder / f"{name}.json").write_text(encoder.encode(board) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
