"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Which(StrEnum):
    """Checkpoints that people name."""

    SELECTED = "selected"
    BEST = "best"
    LAST = "last"


SpecArgument = Annotated[Path, typer.Argument(help="The YAML spec.", show_default=False)]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="A file whose `data` section takes the place of the spec's."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set a value, such as train.epochs=3. Repeatable."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
OverwriteOption = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace the files that are there; in a folder, only nifbuild's own."
    ),
]
CheckpointOption = Annotated[
    Which,
    typer.Option(
        "--checkpoint",
        help="The one that the run's figures are of, the best on validation, or the last.",
    ),
]
