"""`nifbuild specs`."""

from nifbuild.cli.output import print_document
from nifbuild.machine.loading import loading
from nifbuild.machine.options import JsonOption


def specs(json_output: JsonOption = False) -> None:
    """List the specs, data sets, recipes and studies that come with nifbuild.

    Their names stand for files in every command, in `extends:` and in studies.
    """
    with loading():
        from nifbuild.machine.terminal import Console, Table
        from nifbuild.spec.shipped import shipped

    found = shipped()
    if json_output:
        print_document({"specs": [one.document() for one in found]})
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for one in found:
        table.add_row(one.name, one.purpose)
    Console().print(table)
