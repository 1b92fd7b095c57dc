"""`nifbuild validate`."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nifbuild.cli.output import print_problems, say
from nifbuild.machine.loading import loading
from nifbuild.machine.options import DataOption, SetOption

if TYPE_CHECKING:
    from nifbuild.errors import Problem


def validate(
    specs: Annotated[list[Path], typer.Argument(help="YAML specs.", show_default=False)],
    data: DataOption = None,
    overrides: SetOption = (),
    form: Annotated[
        Literal["text", "json", "github"],
        typer.Option("--format", help="How problems are shown; github: as annotations."),
    ] = "text",
) -> None:
    """Check specs: structure, values and shapes. Problems are told together, each with its place.

    Those of patches and shapes are told once the values are right. A file that holds nothing but a
    `data` section is checked as data, one that only says how to train as a recipe, one with a
    `matrix` as a study, in all its variants, and one with a `search` at the ends of its ranges. Of
    images in folders that are there, the classes are counted. Exit code 2 if anything is wrong.
    """
    with loading():
        from nifbuild.data.counted_classes import load_counted
        from nifbuild.errors import RunError, SpecError, counted
        from nifbuild.spec.ablation import is_study, load_study
        from nifbuild.spec.data_file import load_data_spec
        from nifbuild.spec.recipe import load_recipe

    found: dict[Problem, list[Path]] = {}
    lines = []
    for path in specs:
        try:
            if is_study(path):
                study = load_study(path)
                if study.spec.search is not None:
                    lines.append(f"{path}: ok, a search of {study.spec.search.trials} trials")
                    continue
                cells = len(study.variants) * len(study.spec.seeds)
                lines.append(
                    f"{path}: ok, a study of {len(study.variants)} variants, {cells} cells"
                )
                continue
            data_spec = load_data_spec(path)
            if data_spec is not None:
                lines.append(f"{path}: ok, a data section")
                continue
            recipe = load_recipe(path)
            if recipe is not None:
                lines.append(f"{path}: ok, a recipe of {counted(recipe.epochs, 'epoch')}")
                continue
            resolved = load_counted(path, data=data, overrides=overrides)
            graph = resolved.graph
            lines.append(
                f"{path}: ok, {len(graph.nodes)} modules, {graph.input_shape} -> "
                f"{graph.output_shape}"
            )
        except (SpecError, RunError) as error:
            for problem in error.problems:
                found.setdefault(problem, []).append(path)
    if form == "text":
        for line in lines:
            say(line)
    print_problems([_told_of(problem, paths) for problem, paths in found.items()], form)
    if found:
        sys.exit(SpecError.exit_code)


def _told_of(problem: "Problem", specs: list[Path]) -> "Problem":
    """With the specs that have it, where it lies in a file that they extend."""
    if problem.where is None or problem.where.file in map(str, specs):
        return problem
    return replace(problem, fix=f"{problem.fix}\nin: {', '.join(map(str, specs))}".strip())
