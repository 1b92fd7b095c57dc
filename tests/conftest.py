"""What all tests share."""

import signal


def pytest_configure() -> None:
    """Lets the processes that tests start hear signals, also where this one ignores them.

    A shell starts what it runs in the background, and `nohup` anything, with signals ignored.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
