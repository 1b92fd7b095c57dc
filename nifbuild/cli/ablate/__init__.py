"""`nifbuild ablate`: studies of one spec in many variants."""

from collections.abc import Callable

from nifbuild.cli.ablate.gate import gate
from nifbuild.cli.ablate.plan import plan
from nifbuild.cli.ablate.report import report
from nifbuild.cli.ablate.run import run

COMMANDS: dict[str, Callable[..., None]] = {
    "plan": plan,
    "run": run,
    "report": report,
    "gate": gate,
}
"""In the order in which they are used."""

HELP = "Compare variants of a spec: plan, run, report, gate."
