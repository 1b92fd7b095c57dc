"""`nifbuild analyze`."""

from typing import TYPE_CHECKING

from nifbuild.cli.command import command, status_line
from nifbuild.machine.loading import loading
from nifbuild.report.analysis import analyze as _analyze

if TYPE_CHECKING:
    from nifbuild.report.analysis.analysis import Analysis


def _show(analysis: "Analysis") -> None:
    with loading():
        from nifbuild.report.analysis.layer_table import print_analysis

    print_analysis(analysis)


analyze = command(_analyze, _show, listening=status_line, quiet=None)
