"""Runs without training: weights of another's checkpoint, and their figures."""

import io

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import nifbuild
from nifbuild import evaluate_run, load_spec
from nifbuild.errors import SpecError
from nifbuild.report.model_card import card_text, run_facts
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.loaded import load_run
from nifbuild.train.run import train_run
from tests.tiny_runs import contents, without_times

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def torchvision_weights():
    """A state_dict drawn at random, with the names and shapes of torchvision's `resnet18`."""
    generator = torch.Generator().manual_seed(0)
    state = {}

    def conv(name, outputs, inputs, size):
        std = (2 / (inputs * size * size)) ** 0.5
        state[name] = std * torch.randn(outputs, inputs, size, size, generator=generator)

    def norm(name, width):
        for part in ("weight", "running_var"):
            state[f"{name}.{part}"] = 0.5 + torch.rand(width, generator=generator)
        for part in ("bias", "running_mean"):
            state[f"{name}.{part}"] = 0.3 * torch.randn(width, generator=generator)

    conv("conv1.weight", 64, 3, 7)
    norm("bn1", 64)
    inputs = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            conv(f"{name}.conv1.weight", width, inputs, 3)
            norm(f"{name}.bn1", width)
            conv(f"{name}.conv2.weight", width, width, 3)
            norm(f"{name}.bn2", width)
            if inputs != width:
                conv(f"{name}.downsample.0.weight", width, inputs, 1)
                norm(f"{name}.downsample.1", width)
            inputs = width
    state["fc.weight"] = 0.05 * torch.randn(1000, 512, generator=generator)
    state["fc.bias"] = 0.05 * torch.randn(1000, generator=generator)
    return state


def resnet18(state, x):
    """He et al., arXiv 1512.03385, table 1 and figure 5, of these weights."""

    def norm(x, name):
        mean, var, weight, bias = (
            state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias)

    def conv(x, name, stride=1, padding=1):
        return F.conv2d(x, state[f"{name}.weight"], stride=stride, padding=padding)

    x = norm(conv(x, "conv1", 2, 3), "bn1").relu()
    x = F.max_pool2d(x, 3, 2, 1)
    for stage in range(1, 5):
        for block in range(2):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            inner = norm(conv(x, f"{name}.conv1", stride), f"{name}.bn1").relu()
            inner = norm(conv(inner, f"{name}.conv2"), f"{name}.bn2")
            if stride == 2:
                x = norm(conv(x, f"{name}.downsample.0", 2, 0), f"{name}.downsample.1")
            x = (inner + x).relu()
    return x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]


def seen(image):
    """As torchvision's weights see an image: 256 bilinear, the centre of 224, normalised."""
    width, height = image.size
    scaled = (
        (256, int(256 * height / width)) if width < height else (int(256 * width / height), 256)
    )
    image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = round((scaled[0] - 224) / 2), round((scaled[1] - 224) / 2)
    image = image.crop((left, top, left + 224, top + 224))
    pixels = torch.from_numpy(np.array(image)).movedim(-1, 0).float() / 255
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    """Four images of two of 1,000 classes in Parquet; the file of a spec; the images."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    noise = np.random.RandomState(0)
    images = []
    for width, height in ((320, 280), (250, 400), (300, 300), (261, 257)):
        coarse = Image.fromarray(noise.randint(0, 256, (9, 9, 3)).astype(np.uint8))
        images.append(coarse.resize((width, height), Image.Resampling.BICUBIC))
    cells = []
    for image in images:
        file = io.BytesIO()
        image.save(file, "PNG")
        cells.append({"bytes": file.getvalue(), "path": None})
    names = [f"class {i}" for i in range(1000)]
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    rows = datasets.Dataset.from_dict(
        {"image": cells, "label": [7, 7, 999, 999]}, features=datasets.Features(features)
    )
    rows.to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "data.yaml").write_text(
        "data:\n"
        "  source: parquet\n"
        f"  files: {{train: {tmp_path}/rows.parquet, test: {tmp_path}/rows.parquet}}\n"
        "  validation: 0\n"
        f"  normalize: {{mean: {list(MEAN)}, std: {list(STD)}}}\n"
    )
    path = tmp_path / "spec.yaml"
    path.write_text(
        "extends: [nifbuild:architectures/resnet18, data.yaml, nifbuild:recipes/imagenet_resnet]\n"
        "train: {batch_size: 2, trackers: [], device: cpu}\n"
    )
    return path, images


def test_torchvisions_weights_are_evaluated_as_torchvision_does(imagenet, tmp_path):
    spec, images = imagenet
    state = torchvision_weights()
    torch.save(state, tmp_path / "resnet18.pth")
    init = f"train.init={tmp_path / 'resnet18.pth'}"
    result = train_run(load_spec(spec, overrides=[init, "train.epochs=0"]), tmp_path / "run")
    inputs = torch.stack([seen(image) for image in images])
    expected = resnet18(state, inputs)
    with torch.no_grad():
        logits = load_run(tmp_path / "run").model(inputs)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    labels = torch.tensor([7, 7, 999, 999])
    assert result.loss == pytest.approx(F.cross_entropy(expected, labels).item(), rel=1e-5)
    assert result.top1 == (expected.argmax(1) == labels).float().mean().item()
    assert (result.epochs, result.selected) == (0, "last")


@pytest.mark.parametrize(
    ("source", "words", "splits"),
    [
        (None, (), {"train": "train", "test": "validation"}),
        ("nifbuild:data/imagenet_folder", (), {"train": "train", "test": "val"}),
        (
            "nifbuild:data/imagenet_folder",
            ("data.path=val", "data.splits={}", "data.test=0", "data.validation=0"),
            {},
        ),
    ],
    ids=["hub", "folder", "val"],
)
def test_the_shipped_spec_evaluates_as_torchvision_does(source, words, splits):
    data = load_spec("nifbuild:resnet18_imagenet", data=source, overrides=words).spec.data
    assert (data.size, data.crop_share, data.interpolation) == ((224, 224), 0.875, "bilinear")
    assert (data.normalize.mean, data.normalize.std) == (MEAN, STD)
    assert data.splits.named == splits
    assert (data.num_classes, data.augment.resized_crop.scale) == (1000, (0.08, 1))


def test_a_run_of_no_epochs_has_the_figures_of_the_weights(resolve, two_epochs, tmp_path):
    """Chosen by validation, there is nothing to choose from."""
    start = (f"train.init={two_epochs}", "train.epochs=0", "train.schedule.warmup_epochs=3")
    result = train_run(resolve(*start), tmp_path / "run")
    known = evaluate_run(two_epochs).only
    same = ("top1", "top5", "loss", "calibration_error", "num_samples", "per_class")
    assert [getattr(result, name) for name in same] == [getattr(known, name) for name in same]
    run = RunDirectory(tmp_path / "run")
    assert [path.name for path in run.checkpoints] == ["step_00000000"]
    assert run.metrics() == [] and result.train_loss is None and not result.stopped_early
    assert "by the weights that the run started from, as no epoch" in card_text(run_facts(run))
    again = evaluate_run(run.path).only
    assert (again.top1, again.loss, again.step) == (result.top1, result.loss, 0)
    assert nifbuild.load(run.path).class_names[3] == "3"
    (run.path / "metrics.json").unlink()
    finished = train_run(resolve(*start), run.path, resume=True)
    assert without_times(finished.document()).keys() == without_times(result.document()).keys()
    assert finished.loss == result.loss


def test_it_goes_on_as_if_it_had_been_asked_for_more(resolve, two_epochs, tmp_path):
    train_run(resolve("train.epochs=0"), tmp_path / "run")
    train_run(resolve("train.epochs=2", "train.keep=9"), tmp_path / "run", resume=True)
    weights, _, lines, best = contents(tmp_path / "run")
    expected = contents(two_epochs)
    assert (lines, best) == expected[2:]
    assert all(weights[name] == content for name, content in expected[0].items())


def test_fewer_than_none_is_refused(resolve):
    with pytest.raises(SpecError, match=r"train\.epochs"):
        resolve("train.epochs=-1")
