"""One page with everything that an analysis has found."""

from collections.abc import Mapping, Sequence

from nifbuild.report.analysis.analysis import NAMES, Analysis, ModelFigures
from nifbuild.report.analysis.filters import FilterFigures
from nifbuild.report.analysis.verdict import verdicts
from nifbuild.report.show.units import percent_text, shape_text
from nifbuild.report.show.web_page import headed, listed, page, section, table

_CAPTIONS = {
    "sizes": (
        "How large are the filters of each layer?",
        "The smallest odd window with the given share of sum |k|: mean over the filters of a "
        "layer, and quartiles. The grid, in grey, is the size of the image that the layer sees, "
        "and so of its filters.",
    ),
    "mass": (
        "How much of a kernel's mass lies within a window?",
        "Share of sum |k|, for all filters that see a grid: mean, and quartiles shaded. Thin lines "
        "are the means of single layers. This is the paper's kernel mass ratio, at odd windows "
        "around the centre and on the grids that the layers see.",
    ),
    "energy": (
        "How much of its energy?",
        "The same for sum k². The output of a filter on white noise has this share of its variance "
        "from within the window.",
    ),
    "spectra": (
        "Which frequencies do the filters pass?",
        "Mean |K| over annuli, over its root mean square: 1 where a filter passes as much as on "
        "average. Mean over filters, and quartiles. 0.5 cycles per pixel is the highest frequency "
        "along an axis.",
    ),
    "components": (
        "What do the filters have in common?",
        "Principal components of all kernels that see a grid, each divided by the root of its "
        "energy and less the mean of all; above them the share of the variance that they explain. "
        "Red is positive, blue negative, white zero.",
    ),
    "gallery": (
        "What do the filters look like?",
        "Kernels of each layer, evenly chosen from the smallest to the largest, in the window that "
        "holds 95 % of the energy of all that are shown. Each has colours of its own: red "
        "positive, blue negative, white zero.",
    ),
    "receptive_fields": (
        "What does the centre of each stage depend on?",
        "The effective receptive field (Luo et al., arXiv 1701.04128): root mean square gradient "
        "of the centre of a stage with respect to each pixel, over images of the run's data, on a "
        "logarithmic scale, its centre in the middle. White: the windows with the first two shares "
        "of its energy; below, their sides in pixels.",
    ),
}


def page_html(analysis: Analysis, pictures: Mapping[str, Sequence[bytes]]) -> str:
    """The page.

    Args:
        analysis: What to tell.
        pictures: PNG files, by the name of the plot.
    """
    image = shape_text(analysis.size)
    facts = f"{analysis.directory}, {analysis.checkpoint}, images of {image} pixels"
    if analysis.against is not None:
        facts += f"; beside {analysis.against}"
    sections = "".join(
        section(question, pictures[plot], caption)
        for plot, (question, caption) in _CAPTIONS.items()
        if pictures.get(plot)
    )
    return page(
        f"Filters of {analysis.name}",
        facts,
        f"""{listed(verdicts(analysis), "verdicts")}
{listed(analysis.notes, "faint")}
{sections}
{headed("Layer by layer", _table(analysis))}""",
        "All figures are in analysis.json.",
    )


def _table(analysis: Analysis) -> str:
    names = ["layer", "kind", "grid", "filters"]
    figures = [*(percent_text(share, 0) for share in analysis.shares), "low"]
    groups = [("", len(names)), *((NAMES[name], len(figures)) for name in analysis.models)]
    rows = [_row(analysis, layer) for layer in analysis.trained.layers]
    caption = (
        "Side of the smallest odd window with a share of the mass, in pixels: mean ± standard "
        "deviation over filters. Low: share of the energy below 0.25 cycles per pixel."
    )
    return table([*names, *figures * len(analysis.models)], rows, caption, groups=groups)


def _row(analysis: Analysis, layer: FilterFigures) -> list[str]:
    path = layer.paths[0]
    cells = [
        path,
        analysis.kinds[path],
        shape_text(layer.grid),
        f"{layer.num_filters:,}",
    ]
    for model in analysis.models.values():
        cells += _model_cells(model, path, analysis.shares)
    return cells


def _model_cells(model: ModelFigures, path: str, shares: Sequence[float]) -> list[str]:
    layer = model.layer(path)
    if layer is None:
        return ["-"] * (len(shares) + 1)
    sizes = [layer.mass_sizes[share] for share in shares]
    cells = [f"{size.mean.item():.1f} ± {size.std.item():.1f}" for size in sizes]
    return [*cells, percent_text(layer.low_share.mean.item(), 0)]
