"""`nifbuild inspect`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from nifbuild.cli.options import DataOption, JsonOption, SetOption, SpecArgument
from nifbuild.cli.output import print_document, print_problems


def inspect(
    spec: SpecArgument,
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
        bool, typer.Option("--verify", help="Run a real training step, and measure its peak.")
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the tables as Markdown.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Show what a model costs before it is trained: parameters, multiply-adds, memory.

    Nothing is allocated but with --verify. Exit code 3 if a budget is exceeded, by these options or
    the spec's `budget` section.
    """
    from nifbuild.errors import BudgetError
    from nifbuild.report.inspect.request import read_request
    from nifbuild.report.inspect.result import inspect_request

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
    result = inspect_request(request)
    if json_output:
        print_document(result.document())
    elif markdown:
        typer.echo(result.markdown())
    else:
        result.print()
    if result.exceeded:
        if not json_output:
            print_problems(result.exceeded)
        sys.exit(BudgetError.exit_code)
