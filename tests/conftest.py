"""What all tests share."""

import os
import signal

import hypothesis

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each worker has a core of its own: threads of several would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same cases in each run, so that a failure is of the change at hand and comes again.
hypothesis.settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("fixed")


def pytest_configure() -> None:
    """Lets the processes that tests start hear signals, also where this one ignores them.

    A shell starts what it runs in the background, and `nohup` anything, with signals ignored.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
