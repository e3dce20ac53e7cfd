"""Which destination and which spool a recorder has by its settings."""

from pathlib import Path
from typing import TYPE_CHECKING

from cheapdeep_ops.recorder.destination import Destination
from cheapdeep_ops.recorder.guard_destination import GuardDestination
from cheapdeep_ops.recorder.spool import Spool
from cheapdeep_ops.recorder.store_destination import StoreDestination
from cheapdeep_ops.recorder.wake import Wake
from cheapdeep_ops.store.clock import StoreClock

if TYPE_CHECKING:
    from cheapdeep_ops.settings import Settings


def destination_of(
    settings: "Settings", *, folder: Path, clock: StoreClock, wake: Wake, always_reads: bool
) -> Destination:
    """The guard or the store at `settings.store_url`; `wake` is set when a guard has news. See `StoreDestination`."""
    url, token = settings.store_url, settings.guard_token
    if settings.is_store_remote and token is not None:
        secret = token.get_secret_value()
        return GuardDestination(url, token=secret, clock=clock, steady=clock.steady, on_news=wake.set)
    limits = {"max_routes": settings.max_routes, "max_classes": settings.max_input_classes}
    return StoreDestination(url, folder=folder, steady=clock.steady, always_reads=always_reads, **limits)


def spool_of(settings: "Settings", folder: Path) -> Spool | None:
    """The files for what a database does not take; None for a guard, which gives each process a name of its own."""
    if settings.spool_dir is None or settings.is_store_remote:
        return None
    return Spool(folder / settings.spool_dir, settings.store_url, folder)
