import csv
import json
import shutil

import pytest
import torch
import torch.nn.functional as F

import nifbuild
from nifbuild.errors import RunError, SpecError
from nifbuild.evaluate.per_image import PerImage
from nifbuild.report.image_figures import plot_mistakes
from nifbuild.spec.resolve import load_spec
from tests.tiny_runs import photo_text, trained


@pytest.fixture(scope="module")
def table(photo_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("table") / "all.csv"
    nifbuild.evaluate_run(photo_run, csv=out)
    return list(csv.DictReader(out.read_text().splitlines()))


def test_the_table_has_what_predict_finds(photo_run, photos, table):
    """Which decodes the files anew, one by one."""
    assert len(table) == 23
    found = nifbuild.predict(photo_run, [row["image"] for row in table], top=3)
    for row, prediction in zip(table, found.images, strict=True):
        (name, share), *_ = prediction.classes
        assert row["predicted"] == name
        assert float(row["probability"]) == pytest.approx(share, abs=1e-5)
        assert row["class"] == row["image"].split("/")[-2]
        own = dict(prediction.classes)[row["class"]]
        assert float(row["loss"]) == pytest.approx(-torch.tensor(own).log().item(), abs=1e-4)


def test_the_table_adds_up_to_the_figures(photo_run, table):
    figures = nifbuild.evaluate_run(photo_run).only
    right = [int(row["right"]) for row in table]
    assert sum(right) / len(right) == figures.top1
    mean = sum(float(row["loss"]) for row in table) / len(table)
    assert mean == pytest.approx(figures.loss, abs=1e-9)
    for own in figures.per_class:
        assert sum(row["class"] == own.name for row in table) == own.num_samples


def test_rows_where_images_have_no_path(two_epochs, tmp_path):
    nifbuild.evaluate_run(two_epochs, csv=tmp_path / "all.csv")
    table = list(csv.DictReader((tmp_path / "all.csv").read_text().splitlines()))
    assert len({int(row["image"]) for row in table}) == len(table) == 17


def test_without_mistakes_the_picture_is_one_line():
    found = PerImage()
    found.begin(Images(), ("a", "b"))
    found.add(torch.tensor([[3.0, 0.0]]), torch.tensor([0]), torch.tensor([0]))
    figure = plot_mistakes(found)
    assert figure.get_suptitle() == "no mistake in 1 images"
    assert not figure.axes and figure.get_figheight() <= 0.5


def test_a_folder_s_images_are_read_as_those_of_training_were(photos, tmp_path):
    """A file with a `data` section says it itself."""
    fields = "validation: 0, resize: stretch, interpolation: nearest, unreadable: skip"
    run = trained(tmp_path, photo_text(photos, fields), "train.epochs=1")
    nifbuild.evaluate_run(run, csv=tmp_path / "own.csv")
    test = shutil.copytree(photos / "test", tmp_path / "test")
    (test / "one" / "empty.png").touch()
    found = nifbuild.evaluate_run(run, data=test, split="all", csv=tmp_path / "test.csv").only
    assert found.num_samples == 23
    losses = [
        [row["loss"] for row in csv.DictReader((tmp_path / name).read_text().splitlines())]
        for name in ("own.csv", "test.csv")
    ]
    assert losses[0] == losses[1]
    nifbuild.shrink(run, kernel_size=3, data=test, size=9)
    data = load_spec(tmp_path / "run_shrunk" / "spec.yaml").spec.data
    assert (data.resize, data.interpolation, data.unreadable) == ("stretch", "nearest", "skip")
    (tmp_path / "test.yaml").write_text(f"data: {{source: imagefolder, path: {test}}}")
    with pytest.raises(RunError, match=r"empty.png.* cannot be read"):
        nifbuild.evaluate_run(run, data=tmp_path / "test.yaml", split="all")


def test_the_worst_come_first():
    found = PerImage()
    found.begin(Images(), ("a", "b"))
    logits = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 4.0], [2.0, 0.0]])
    labels = torch.tensor([1, 1, 0, 0])
    found.add(logits[2:], labels[2:], torch.tensor([2, 3]))
    found.add(logits[:2], labels[:2], torch.tensor([0, 1]))
    assert [image.place for image in found.figures] == [0, 1, 2, 3]
    assert [image.place for image in found.worst(5)] == [2, 0]
    assert [image.place for image in found.worst(1)] == [2]
    expected = F.cross_entropy(logits.double(), labels, reduction="none").tolist()
    assert [image.loss for image in found.figures] == pytest.approx(expected)


class Images:
    """As much of a set of images as is asked for."""

    class source:  # noqa: N801
        path = staticmethod(str)


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_picture(photo_run, tmp_path, cli, ending):
    out = tmp_path / f"worst.{ending}"
    result = cli("evaluate", photo_run, "--mistakes", out)
    assert result.exit_code == 0 and out.stat().st_size > 1000
    assert f"wrote {out}" in result.stderr
    assert cli("evaluate", photo_run, "--mistakes", out, "-q").exit_code == 2  # it exists


def test_wrong_input(photo_run, tmp_path, cli):
    with pytest.raises(SpecError, match="--csv is for one size"):
        nifbuild.evaluate_run(photo_run, csv=tmp_path / "a.csv", size=[8, 16])
    result = cli("evaluate", photo_run, "--csv", tmp_path / "a.txt", "--json")
    assert "names no known format" in json.loads(result.stdout)["problems"][0]["what"]
