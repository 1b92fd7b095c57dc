"""`nifbuild inspect`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from nifbuild.cli.loading import loading
from nifbuild.cli.options import DataOption, JsonOption, SetOption
from nifbuild.cli.output import print_document, print_problems


def inspect(
    specs: Annotated[
        list[Path],
        typer.Argument(help="YAML specs; of several, the totals.", show_default=False),
    ],
    data: DataOption = None,
    overrides: SetOption = None,
    batch_sizes: Annotated[
        str | None,
        typer.Option(
            "--batch-size",
            metavar="N[,N...]",
            help="Images at once on one device; several, for one column each.",
            show_default="as the spec trains",
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(
            help="Device to predict memory for; it need not be there. auto: the spec's, which is "
            "cuda unless it says cpu; with --verify what this machine has."
        ),
    ] = "auto",
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"] | None, typer.Option(show_default="the spec's")
    ] = None,
    optimizer: Annotated[
        Literal["sgd", "adamw"] | None, typer.Option(show_default="the spec's")
    ] = None,
    device_memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Find the largest batch that fits, as in 24GiB."),
    ] = None,
    max_params: Annotated[
        str | None, typer.Option(metavar="N", help="Budget of parameters, as in 12M.")
    ] = None,
    max_macs: Annotated[
        str | None, typer.Option(metavar="N", help="Budget of multiply-adds, as in 2G.")
    ] = None,
    max_train_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Budget of training memory, as in 8GiB.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="SPEC", help="Another spec, to be set side by side."),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Run real training steps and inference, and measure their peaks."
        ),
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the tables as Markdown.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Show what models cost before they are trained: parameters, multiply-adds, memory.

    The model is not allocated but with --verify. For a CPU, memory is that of this machine: what
    its libraries take is found by trying single convolutions. Exit code 3 if a budget is exceeded,
    by these options or the spec's `budget` section.
    """
    with loading():
        from nifbuild.errors import BudgetError, SpecError
        from nifbuild.report.inspect.request import read_request
        from nifbuild.report.inspect.result import inspect_request
        from nifbuild.report.inspect.several import Several

    if len(specs) > 1 and against is not None:
        raise SpecError("--against is for one spec, not several", fix="name one SPEC")
    results = {}
    for spec in specs:
        request = read_request(
            spec,
            data=data,
            overrides=overrides or (),
            batch_sizes=batch_sizes,
            device=device,
            precision=precision,
            optimizer=optimizer,
            device_memory=device_memory,
            limits={
                "max_params": max_params,
                "max_macs": max_macs,
                "max_train_memory": max_train_memory,
            },
            against=against,
            verify=verify,
        )
        results[str(spec)] = inspect_request(request)
    found = Several(results) if len(results) > 1 else next(iter(results.values()))
    if json_output:
        print_document(found.document())
    elif markdown:
        typer.echo(found.markdown())
    else:
        found.print()
    if found.exceeded:
        if not json_output:
            print_problems(found.exceeded)
        sys.exit(BudgetError.exit_code)
