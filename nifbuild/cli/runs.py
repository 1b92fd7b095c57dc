"""`nifbuild runs` and `nifbuild compare`."""

from typing import TYPE_CHECKING

from nifbuild.cli.command import command
from nifbuild.machine.loading import loading
from nifbuild.report.side_by_side import compare_runs, list_runs

if TYPE_CHECKING:
    from nifbuild.report.side_by_side.recorded import SideBySide


def _show_list(made: "SideBySide") -> None:
    with loading():
        from nifbuild.report.side_by_side.run_tables import print_runs

    print_runs(made)


def _show_comparison(made: "SideBySide") -> None:
    with loading():
        from nifbuild.report.side_by_side.run_tables import print_comparison

    print_comparison(made)


runs = command(list_runs, _show_list, name="runs", quiet=None)
compare = command(compare_runs, _show_comparison, name="compare", quiet=None)
