"""`nifbuild bench`."""

from typing import TYPE_CHECKING

from nifbuild.cli.command import command, status_line
from nifbuild.machine.loading import loading
from nifbuild.report.bench import bench as _bench

if TYPE_CHECKING:
    from nifbuild.report.bench import Report


def _show(report: "Report") -> None:
    with loading():
        from nifbuild.report.bench.report_tables import print_report

    print_report(report)


bench = command(_bench, _show, listening=status_line, quiet=None)
