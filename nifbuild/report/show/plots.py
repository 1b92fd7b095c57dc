"""One look for all plots."""

from nifbuild.errors import shown


def in_plot(text: str) -> str:
    """A name on one line of a plot of matplotlib, in which a dollar starts no mathematics."""
    return shown(text).replace("$", r"\$")
