"""`nifbuild explain`."""

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from nifbuild.cli.output import print_document
from nifbuild.machine.loading import loading
from nifbuild.machine.options import JsonOption

if TYPE_CHECKING:
    from nifbuild.machine.terminal import Console
    from nifbuild.spec.reference.entries import Entry, Field

_WIDEST = 100
"""Most characters of a line that is read comfortably."""
_LISTED = 18
"""Characters for a word in the list of all; more take several lines."""


def explain(
    name: Annotated[
        str | None,
        typer.Argument(
            help="An op (conv), a section (train), a field of one (conv.padding_mode, "
            "train.optimizer.lr), a function (round_to), or another word of the language.",
            show_default=False,
        ),
    ] = None,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="All words, as the page examples/reference.md.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Explain a word of the language: its fields, their types, defaults and meaning.

    Without a name, list all words.
    """
    with loading():
        from nifbuild.machine.terminal import Console, Table
        from nifbuild.spec.reference import explained, overview
        from nifbuild.spec.reference.markdown_page import reference_page

    if as_markdown:
        typer.echo(reference_page(), nl=False)
        return
    if name is not None:
        entry = explained(name)
        if json_output:
            print_document(entry.document())
        else:
            _show(entry, Console())
        return
    groups = overview()
    if json_output:
        words = {title: [{"name": n, "meaning": m} for n, m in found] for title, found in groups}
        print_document(words)
        return
    console = Console()
    for title, found in groups:
        _print(console, title, style="bold")
        table = Table.grid(padding=(0, 2))
        table.add_column(width=_LISTED, style="cyan")
        table.add_column()
        for word, meaning in found:
            table.add_row(word, meaning)
        console.print(table, width=min(console.width, _WIDEST))
        console.print()
    _print(
        console, "nifbuild explain NAME tells more of each, and of fields: conv.stride", style="dim"
    )


def _show(entry: "Entry", console: "Console") -> None:
    about = "" if entry.field is None else f": {_type(entry.field)}"
    _print(console, f"{entry.name} ({entry.what}){about}", style="bold")
    for paragraph in entry.meaning.splitlines():
        _print(console, paragraph, indent=2)
    _show_fields(entry.fields, console)
    for variant in entry.variants:
        console.print()
        about = "" if variant.field is None else f": {_type(variant.field)}"
        _print(console, f"{variant.name}{about}", indent=2, style="bold")
        for paragraph in variant.meaning.splitlines():
            _print(console, paragraph, indent=4)
        _show_fields(variant.fields, console, indent=4)
    if entry.more:
        console.print()
    for line in entry.more.splitlines():
        _print(console, line, indent=2, style="dim")


def _show_fields(fields: "tuple[Field, ...]", console: "Console", indent: int = 2) -> None:
    for field in fields:
        _print(console, f"{field.name}: {_type(field)}", indent=indent, style="cyan")
        _print(console, field.meaning, indent=indent + 4)


def _type(field: "Field") -> str:
    default = "required" if field.default is None else f"default {field.default or 'empty'}"
    return "; ".join(filter(None, (field.type, default)))


def _print(console: "Console", text: str, indent: int = 0, style: str = "") -> None:
    """A paragraph, its lines as wide as is read well."""
    from rich.text import Text

    if text:
        margin, width = " " * indent, min(console.width, _WIDEST)
        lines = textwrap.fill(
            text, width, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False
        )
        console.print(Text(lines, style=style))
