"""One page with everything: no scripts, no network, pictures within."""

import base64
import html
from collections.abc import Mapping, Sequence

from nifbuild.errors import shown
from nifbuild.machine import VERSION
from nifbuild.report.analysis.analysis import NAMES, Analysis, ModelFigures
from nifbuild.report.analysis.filters import FilterFigures
from nifbuild.report.analysis.verdict import verdicts
from nifbuild.report.output_file import MAKER
from nifbuild.report.show.units import percent_text, shape_text

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --faint: #666; --line: #ddd;
  --link: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #16181c; --faint: #a0a0a0; --line: #383b42; --link: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 60rem; color: var(--ink);
  background: var(--paper); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
p, li { max-width: 46rem; } a { color: var(--link); }
.faint, figcaption, caption { color: var(--faint); font-size: .875rem; }
.verdicts { padding-left: 1.2rem; font-size: 1.05rem; } .verdicts li { margin: .35rem 0; }
figure { margin: 1rem 0; } figcaption { max-width: 46rem; margin-top: .4rem; }
img { width: 560px; max-width: 100%; height: auto; background: #fff; padding: 8px;
  border: 1px solid var(--line); border-radius: 4px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .875rem;
  font-variant-numeric: tabular-nums; } caption { text-align: left; padding-bottom: .4rem; }
th, td { padding: .2rem .7rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; } td:first-child { font-family: monospace; }
"""

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
    name = _escape(analysis.name)
    image = shape_text(analysis.size)
    facts = (
        f"{_escape(analysis.directory)}, {_escape(analysis.checkpoint)}, images of {image} pixels"
    )
    if analysis.against is not None:
        facts += f"; beside {_escape(analysis.against)}"
    sections = "".join(_section(plot, pictures[plot]) for plot in _CAPTIONS if pictures.get(plot))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="{MAKER}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Filters of {name}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>Filters of {name}</h1>
<p class="faint">{facts}</p>
</header>
<main>
{_list("verdicts", verdicts(analysis))}
{_list("faint", analysis.notes)}
{sections}
<section>
<h2>Layer by layer</h2>
{_table(analysis)}
</section>
</main>
<footer class="faint"><p>nifbuild {VERSION}. All figures are in analysis.json.</p></footer>
</body>
</html>
"""


def _escape(text: str) -> str:
    return html.escape(shown(text))


def _list(kind: str, sentences: Sequence[str]) -> str:
    if not sentences:
        return ""
    items = "\n".join(f"<li>{_escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="{kind}">\n{items}\n</ul>'


def _section(plot: str, pictures: Sequence[bytes]) -> str:
    question, caption = _CAPTIONS[plot]
    images = "\n".join(
        f'<img alt="{_escape(question)}" src="data:image/png;base64,'
        f'{base64.b64encode(picture).decode()}">'
        for picture in pictures
    )
    return f"""<section>
<h2>{_escape(question)}</h2>
<figure>
{images}
<figcaption>{_escape(caption)}</figcaption>
</figure>
</section>
"""


def _table(analysis: Analysis) -> str:
    heads = ["layer", "kind", "grid", "filters"]
    for name in analysis.models:
        heads += [f"{percent_text(share, 0)}, {NAMES[name]}" for share in analysis.shares]
        heads.append(f"low, {NAMES[name]}")
    rows = [_row(analysis, layer) for layer in analysis.trained.layers]
    head = "".join(f"<th>{_escape(text)}</th>" for text in heads)
    body = "\n".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    caption = (
        "Side of the smallest odd window with a share of the mass, in pixels: mean ± standard "
        "deviation over filters. Low: share of the energy below 0.25 cycles per pixel."
    )
    return f"""<div class="wide"><table>
<caption>{caption}</caption>
<thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody>
</table></div>"""


def _row(analysis: Analysis, layer: FilterFigures) -> list[str]:
    path = layer.paths[0]
    cells = [
        _escape(path),
        _escape(analysis.kinds[path]),
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
