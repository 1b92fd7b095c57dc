"""The picture of a confusion matrix."""

import csv
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nifbuild.errors import RunError
from nifbuild.report.confusion import plot_confusion, save_confusion


def result(names, seed=0):
    counts = np.random.RandomState(seed).poisson(1.0, (len(names), len(names)))
    counts += np.diag([1234] * len(names))
    return SimpleNamespace(
        name="net",
        split="test",
        data=None,
        size=(32, 48),
        top1=0.8765,
        num_samples=int(counts.sum()),
        num_pixels=None,
        per_class=[SimpleNamespace(name=name) for name in names],
        confusion_matrix=torch.from_numpy(counts),
    )


def overlaps(labels, renderer):
    """Pairs of drawn texts that cover each other."""
    boxes = [label.get_window_extent(renderer) for label in labels if label.get_text()]
    return sum(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["cat", "dog"], 2),
        (
            ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "t"],
            10,
        ),
        ([f"a long name, of the class number {i}" for i in range(20)], 20),
        ([f"class_{i}" for i in range(100)], 50),
    ],
    ids=["2", "10", "20", "100"],
)
def test_names_and_counts_stay_apart(names, named):
    document = result(names)
    figure = plot_confusion(document)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    axes = figure.axes[0]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert len(labels) == named
        assert overlaps(labels, renderer) == 0
    assert len({label.get_text() for label in axes.get_xticklabels()}) == named
    texts = [text.get_text() for text in axes.texts]
    flat = [f"{count:,}" for count in document.confusion_matrix.flatten().tolist()]
    assert texts == (flat if len(names) <= 20 else [])
    assert overlaps(axes.texts, renderer) == 0
    inside = figure.bbox
    for drawn in (axes.title, axes.xaxis.label, axes.yaxis.label, figure.axes[1].yaxis.label):
        box = drawn.get_window_extent(renderer)
        assert inside.x0 <= box.x0 and box.x1 <= inside.x1, drawn.get_text()
        assert inside.y0 <= box.y0 and box.y1 <= inside.y1, drawn.get_text()
    assert "accuracy 87.65%" in axes.get_title() and "at 32x48" in axes.get_title()
    assert ("1 of 2 is named" in axes.get_xlabel()) == (named < len(names))


def test_colours_are_shares_of_rows():
    document = result(["a", "b", "c"])
    document.confusion_matrix = torch.tensor([[3, 1, 0], [0, 0, 0], [5, 0, 15]])
    (image,) = plot_confusion(document).axes[0].images
    shares = np.ma.filled(image.get_array(), np.nan)
    assert np.array_equal(shares, [[0.75, 0.25, 0], [np.nan] * 3, [0.25, 0, 0.75]], equal_nan=True)


def test_names_that_would_be_read_as_something_else(tmp_path):
    names = ["$x_1$, $", "two\nlines", "a,b", 'quo"te']
    save_confusion(result(names), tmp_path / "c.png")
    save_confusion(result(names), tmp_path / "c.csv")
    with (tmp_path / "c.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head[1:] == [row[0] for row in rows] == names


def test_a_file_that_cannot_be_written(tmp_path):
    for name in ("c.png", "c.csv"):
        with pytest.raises(RunError, match="cannot write to"):
            save_confusion(result(["a", "b"]), tmp_path / "nowhere" / name)


def test_of_many_classes_neighbours_share_a_cell_and_only_pairs_that_occur_a_row(tmp_path):
    names = [f"n{i:08d}" for i in range(21_841)]
    document = result(names[:2])
    document.per_class = [SimpleNamespace(name=name) for name in names]
    places = torch.tensor([[0, 0, 21, 22, 21_840], [0, 21, 22, 0, 21_840]])
    counts = torch.tensor([5, 3, 4, 2, 7])
    document.confusion_matrix = torch.sparse_coo_tensor(
        places, counts, (21_841,) * 2, check_invariants=True
    ).coalesce()
    figure = plot_confusion(document)
    (image,) = figure.axes[0].images
    shares = np.ma.filled(image.get_array(), np.nan)
    assert shares.shape == (993, 993)  # 22 classes to a row
    assert list(shares[0, :2]) == [8 / 12, 4 / 12]
    assert list(shares[1, :2]) == [1, 0]
    assert shares[992, 992] == 1
    assert np.isnan(shares[2:992]).all()
    label = figure.axes[0].get_xlabel()
    assert label == "predicted class (1 of 440 is named; a cell is 22 classes wide)"
    assert figure.axes[0].get_xticklabels()[1].get_text() == "n00000440"
    save_confusion(document, tmp_path / "c.csv")
    with (tmp_path / "c.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["true", "predicted", "images"],
            ["n00000000", "n00000000", "5"],
            ["n00000000", "n00000021", "3"],
            ["n00000021", "n00000022", "4"],
            ["n00000022", "n00000000", "2"],
            ["n00021840", "n00021840", "7"],
        ]
