"""`nifbuild graph`."""

from pathlib import Path
from typing import Annotated

import typer

from nifbuild.machine.loading import loading
from nifbuild.machine.options import DataOption, OverwriteOption, SetOption, SpecArgument

_MOST_COLUMNS = 16
"""More make a band that nobody can read: ResNet-18 is 5,900 wide and 300 high in 12."""


def graph(
    spec: SpecArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The file: .svg, .png, or .mmd for Mermaid.",
            show_default="<name of the spec>.svg",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    depth: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Levels of blocks to open; 0: none.",
            show_default="as many as stay legible",
        ),
    ] = None,
    columns: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=_MOST_COLUMNS,
            help="Columns that a tall picture is cut into, at most.",
            show_default="as few as make it no taller than wide",
        ),
    ] = None,
    data: DataOption = None,
    overrides: SetOption = (),
) -> None:
    """Draw a spec's network: blocks, branches and shapes; implicit filters stand out.

    Equal blocks in a row are drawn once, with their number.
    """
    with loading():
        from nifbuild.data.counted_classes import load_counted
        from nifbuild.report.drawing.render import require_writable, save

    if out is not None:
        require_writable(out, overwrite=overwrite)
    resolved = load_counted(spec, data=data, overrides=overrides)
    file = out or Path(f"{resolved.name}.svg")
    save(resolved, file, depth, columns=columns, overwrite=overwrite)
