"""Plots of few and of many layers: what stands in them, and that it can be read in a column."""

import itertools
from dataclasses import replace

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from nifbuild.nn import FreeFrequencyConv2d
from nifbuild.report.analysis.analysis import Analysis, ModelFigures
from nifbuild.report.analysis.components import choose_samples, measure_components
from nifbuild.report.analysis.filters import measure_filters
from nifbuild.report.analysis.folder import draw
from nifbuild.report.analysis.layer_table import print_analysis
from nifbuild.report.analysis.plot_curves import plot_sizes
from nifbuild.report.analysis.plot_images import plot_gallery, plot_receptive_fields
from nifbuild.report.analysis.receptive_field import ReceptiveField
from nifbuild.report.analysis.verdict import verdicts
from nifbuild.report.filter_windows import LayerKernels
from nifbuild.report.show.plots import COLUMN_INCHES, PAPER, short_names


def figures(paths: list[str], spread: float, seed: int) -> ModelFigures:
    """Of random kernels that fall off around their centre, on grids of 8 and 4 pixels."""
    noise = torch.Generator().manual_seed(seed)
    layers = []
    for index, path in enumerate(paths):
        size = 8 if index < len(paths) / 2 else 4
        place = torch.arange(size) - size // 2
        envelope = torch.exp(-(place.square()[:, None] + place.square()) / (2 * spread**2))
        kernels = torch.randn(5, size, size, generator=noise) * envelope
        layers.append(LayerKernels(path, FreeFrequencyConv2d(1, 1, 1), kernels))
    each, grids = measure_filters(layers, (0.5, 0.9))
    gradient = torch.rand(16, 16, generator=noise)
    fields = tuple(
        ReceptiveField(path, (8, 8), 2, gradient, (1, 3), (0.4, 1), (0.5, 1), {}, {0.5: 3, 0.9: 9})
        for path in ("stem.relu", *(f"layer{i}.1.relu_2" for i in (1, 2, 3, 4)))
    )
    return ModelFigures(each, grids, measure_components(layers), choose_samples(layers), fields)


def analysis(paths: list[str]) -> Analysis:
    """Smaller by training, and beside a run without the last layer."""
    models = {
        "trained": figures(paths, 0.7, 0),
        "initial": figures(paths, 2.0, 1),
        "against": figures(paths[:-1], 1.0, 2),
    }
    kinds = dict.fromkeys(paths, "implicit_frequency")
    return Analysis(
        "net", "runs/net", "step_1", 1, (16, 16), (0.5, 0.9), kinds, models, "runs/other", ()
    )


FEW = analysis([f"layer{i}.{j}.conv" for i in (1, 2) for j in range(6)])
MANY = analysis([f"body.stage{i}.{j}.conv" for i in (1, 2, 3) for j in range(30)])
ODD = analysis([f"conv{i}" for i in range(40)])


def texts(figure: Figure) -> list[Text]:
    return [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]


@pytest.fixture(scope="module")
def few():
    """All plots of few layers."""
    return laid_out(draw(FEW))


@pytest.fixture(scope="module")
def sizes(few):
    """The plot that has a place for each layer, of few and of many."""
    with PAPER.applied():
        others = {"many": [plot_sizes(MANY)], "odd": [plot_sizes(ODD)]}
    return {name: plots[0] for name, plots in {**laid_out(others), "few": few["sizes"]}.items()}


def laid_out(plots: dict[str, list[Figure]]) -> dict[str, list[Figure]]:
    """Once drawn, texts have places."""
    for figure in itertools.chain(*plots.values()):
        with PAPER.applied():
            FigureCanvasAgg(figure).draw()
    return plots


def test_every_plot_fits_a_column_and_is_legible(few, sizes):
    assert list(few) == [
        "sizes", "mass", "energy", "spectra", "components", "gallery", "receptive_fields"
    ]  # fmt: skip
    for figure in (*itertools.chain(*few.values()), *sizes.values()):
        width, height = figure.get_size_inches()
        assert width == COLUMN_INCHES and height < 9
        assert min(text.get_fontsize() for text in texts(figure)) >= 7


def test_nothing_is_cut_off_and_no_label_lies_over_another(few, sizes):
    for figure in (*itertools.chain(*few.values()), *sizes.values()):
        inside = figure.get_tightbbox(figure.canvas.get_renderer())  # in inches
        assert inside.x0 >= -0.01 and inside.x1 <= COLUMN_INCHES + 0.01
        assert inside.y0 >= -0.01 and inside.y1 <= figure.get_size_inches()[1] + 0.01
    titles = [t for axes in few["receptive_fields"][0].axes[:5] if (t := axes.title).get_text()]
    assert len(titles) == 5
    boxes = [title.get_window_extent() for title in titles]
    assert all(a.x1 <= b.x0 for a, b in itertools.pairwise(boxes))
    for name in ("few", "many"):
        labels = [t for t in sizes[name].axes[-1].get_xticklabels() if t.get_text()]
        boxes = [t.get_window_extent() for t in labels]
        assert all(a.x1 <= b.x0 for a, b in itertools.pairwise(boxes))


def test_layers_are_named_where_there_is_room(sizes):
    labels = {
        name: [t.get_text() for t in figure.axes[-1].get_xticklabels()]
        for name, figure in sizes.items()
    }
    assert labels["few"] == [f"layer{i}.{j}.conv" for i in (1, 2) for j in range(6)]
    assert labels["many"] == ["stage1", "stage2", "stage3"]
    assert sizes["odd"].axes[-1].get_xlabel() == "layer, in the order in which they are applied"


def test_axes_say_what_they_show_and_in_which_unit(few):
    units = {
        "sizes": "pixels",
        "mass": "side of the odd window (pixels)",
        "energy": "share of the kernel's energy",
        "spectra": "cycles per pixel",
        "components": "%",
        "receptive_fields": "gradient over its largest value",
    }
    for plot, words in units.items():
        assert any(words in text.get_text() for text in texts(few[plot][0])), plot
    legend = {t.get_text() for legend in few["mass"][0].legends for t in legend.get_texts()}
    assert legend == {"trained", "at initialisation", "other run"}


def test_the_gallery_has_every_layer_on_as_many_pages_as_it_needs(few):
    assert [len(texts(figure)) for figure in few["gallery"]] == [12]
    with PAPER.applied():
        pages = plot_gallery(analysis([f"conv{i}" for i in range(18)]))
    assert [len(texts(figure)) for figure in pages] == [16, 2]


def test_the_curves_are_the_figures(few):
    figure = few["mass"][0]
    lines = [line for line in figure.axes[0].lines if line.get_linewidth() > 1]
    grid = FEW.trained.grids[0]
    shown = [line.get_ydata() for line in lines if len(line.get_xdata()) == len(grid.windows)]
    assert any(list(y) == grid.mass.mean.tolist() for y in shown)


def test_the_squares_of_receptive_fields_have_a_key():
    figure = plot_receptive_fields(FEW)
    (key,) = figure.legends
    shown = {
        text.get_text(): line.get_linestyle()
        for text, line in zip(key.get_texts(), key.get_lines(), strict=True)
    }
    assert shown == {"50% of its energy": "-", "90% of its energy": "--"}
    assert "below: their sides in pixels" in key.get_title().get_text()
    windows = {(p.get_width(), p.get_linestyle()) for p in figure.axes[0].patches}
    assert windows == {(3, "-"), (9, "--")} and figure.axes[0].get_xlabel() == "3 / 9"


def test_short_names():
    assert short_names(["a.b.c", "a.b.d.e"]) == ["c", "d.e"]
    assert short_names(["a.b", "c"]) == ["a.b", "c"]
    assert short_names(["a.b"]) == ["b"]


def test_a_change_that_the_table_does_not_show_is_none():
    """In all layers, means of 3.01 and 2.99 are 3.0 in the table."""
    models = {}
    for name, mean in (("trained", 3.01), ("initial", 2.99)):
        spread = replace(FEW.trained.layers[0].mass_sizes[0.5], mean=torch.tensor(mean))
        each = [replace(f, mass_sizes={**f.mass_sizes, 0.5: spread}) for f in FEW.trained.layers]
        models[name] = replace(FEW.trained, layers=each)
    change = verdicts(replace(FEW, models=models))[2]
    assert "smaller in 0 layers and larger in 0 layers; in 12 layers it is the same" in change


@pytest.mark.parametrize(("columns", "shares"), [(60, 2), (45, 1), (30, 1), (200, 2)])
def test_a_narrow_terminal_shows_names_and_fewer_shares(columns, shares, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    print_analysis(FEW)
    table = capsys.readouterr().out.split("of mass:")[0]
    assert table.count("of mass") == shares
    if columns >= 45:
        assert all(layer.paths[0] in table for layer in FEW.trained.layers)


def test_verdicts():
    """By hand: in each layer, half of the mass of half of the filters lies within so much."""
    first, second, change, low, field = verdicts(FEW)
    sizes = sorted(int(f.mass_sizes[0.5].median.item()) for f in FEW.trained.layers)
    before = sorted(int(f.mass_sizes[0.5].median.item()) for f in FEW.models["initial"].layers)
    window = sizes[8]  # the ninth of twelve: three quarters
    enough = sum(size <= window for size in sizes)
    assert first.startswith(
        f"Half of the kernel mass lies within {window}x{window} pixels for at least half of the "
    )
    assert ("all 12" if enough == 12 else f"{enough} of 12") in first
    assert f"at initialisation within {before[enough - 1]}x{before[enough - 1]}; in the" in first
    assert second.startswith("90% of the kernel mass")
    assert change.startswith("Training has made the mean window with 50% of the mass smaller in ")
    means = [
        [f.mass_sizes[0.5].mean.item() for f in FEW.models[m].layers]
        for m in ("trained", "initial")
    ]
    smaller = sum(after < then for after, then in zip(*means, strict=True))
    assert f"smaller in {smaller} layers and larger in 0 layers" in change
    assert "below 0.25 cycles per pixel" in low
    assert field == (
        "The centre of the last stage larger than one pixel (layer4.1.relu_2) has 50% of its "
        "gradient's energy within "
        "3x3 of 16x16 pixels; at initialisation within 3x3."
    )
