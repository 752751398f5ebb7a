"""Telemetry that the workers of `footfall serve` share. Import it before any metric is made.

When processes share their telemetry, prometheus_client calls os.getpid() at each count. That system
call is a twentieth of the cost of a cached answer, so the id is stored once in each process.
"""

import os

from prometheus_client import values

_process_id = os.getpid()


def _renew() -> None:
    global _process_id  # noqa: PLW0603 - one number a process
    _process_id = os.getpid()


os.register_at_fork(after_in_child=_renew)
if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    values.ValueClass = values.MultiProcessValue(lambda: _process_id)  # type: ignore[no-untyped-call]  # the library leaves it so
