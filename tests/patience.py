"""How long tests wait for what must come."""

from typing import Final

PATIENCE_S: Final = 240.0
"""For a server to start, or a process to act or to end, on a machine on which all takes ten times as long."""
