"""Files that travel with the package: alert rules and dashboards."""

from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).resolve().parent


def packaged(name: str) -> Path:
    """The path of a packaged file or folder such as `alerts/rules.yaml`. Raises FileNotFoundError if it is missing."""
    # A wheel has these files inside the package, and a checkout has them beside it.
    for root in (_PACKAGE, _PACKAGE.parent):
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(f"{name} is not part of this installation")
