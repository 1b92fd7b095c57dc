"""`nifbuild shrink`."""

from typing import TYPE_CHECKING

from nifbuild.cli.command import command
from nifbuild.machine.loading import loading
from nifbuild.report.shrink import shrink as _shrink

if TYPE_CHECKING:
    from nifbuild.report.shrink.result import ShrinkResult


def _show(result: "ShrinkResult") -> None:
    with loading():
        from nifbuild.report.shrink.result import print_result

    print_result(result)


shrink = command(_shrink, _show)
