"""`cheapdeep-ops serve` on a host whose clock differs; see `host.py`. The argument is the file with the difference."""

import logging
import sys

from cheapdeep_ops.guard.service import Service
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.clock import steady
from tests.e2e.host import wall

logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
logging.getLogger("apscheduler").setLevel(logging.WARNING)
Service(Settings(), clock=wall(sys.argv[1]), steady_clock=steady).serve()
