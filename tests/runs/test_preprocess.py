"""What a model sees of an image file: one and the same wherever it is asked."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

import nifbuild
from nifbuild.errors import SpecError
from nifbuild.evaluate.predict import predict_images
from nifbuild.runs.loaded import LoadedModel
from tests.tiny_runs import photo_text, trained

IMAGENET = "nifbuild:data/imagenet"
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def imagenet_model():
    """A model that has learned from ImageNet, as far as its input is concerned."""
    resolved = nifbuild.load_spec("nifbuild:architectures/resnet18", data=IMAGENET)
    normalize = resolved.spec.data.normalize
    mean, std = (torch.tensor(values) for values in (normalize.mean, normalize.std))
    return LoadedModel(torch.nn.Identity(), resolved, (), mean, std)


def bytes_of(found):
    """The pixels before normalisation by ImageNet's statistics, [height, width, channels]."""
    assert found.shape == (1, 3, 224, 224)
    pixels = found[0].permute(1, 2, 0).double().numpy()
    return (pixels * STD + MEAN) * 255


def test_photographs_are_scaled_to_256_and_cut_to_224_as_by_torchvision(imagenet_model):
    """A ramp, twice as large: columns 0, 0, 1, 1, ... of which the first 16 are cut off.

    Bilinear: column j lies at (j + 1/2) / 2 - 1/2 = j/2 - 1/4, which is rounded to j // 2.
    """
    ramp = np.broadcast_to(np.arange(128)[None, :, None], (128, 128, 3))
    found = bytes_of(imagenet_model.preprocess(png(ramp)))
    expected = np.broadcast_to(((16 + np.arange(224)) // 2)[None, :, None], found.shape)
    assert np.allclose(found, expected, atol=1e-3)


def test_photographs_are_scaled_down_by_an_antialiased_triangle(imagenet_model):
    """A white column at half the size: 3/8 of it in the column that it becomes, 1/8 beside it.

    A triangle that reaches two pixels to either side weighs those at 1/2 and 3/2 with 3/4 and 1/4,
    which makes 2 together. Column 174 has its middle at 349 of the old pixels, 175 at 351.
    """
    column = np.zeros((512, 700, 3))
    column[:, 350] = 255
    found = bytes_of(imagenet_model.preprocess(png(column)))
    line = np.zeros(224)
    left = (350 - 224) // 2
    line[[174 - left, 175 - left]] = [round(255 / 8), round(255 * 3 / 8)]
    assert np.abs(found[:, :, 0] - line).max() < 1e-3


def test_normalisation_is_that_of_the_field(imagenet_model):
    found = imagenet_model.preprocess(png(np.full((300, 400, 3), 51)))
    expected = (0.2 - MEAN) / STD
    assert np.allclose(found.mean((0, 2, 3)), expected, atol=1e-6)


def test_a_model_that_takes_no_images():
    resolved = nifbuild.load_spec("nifbuild:architectures/resnet18", overrides=["input.channels=5"])
    model = LoadedModel(torch.nn.Identity(), resolved, (), torch.zeros(5), torch.ones(5))
    with pytest.raises(SpecError, match="takes 5 channels, and images have 1 or 3"):
        model.preprocess(b"")


@pytest.fixture(scope="module")
def cropping_run(photos, tmp_path_factory):
    """A run on photos of which it sees three quarters, cut out of the middle."""
    text = photo_text(photos, "validation: 0, crop_share: 0.75")
    return trained(tmp_path_factory.mktemp("cropping"), text, "train.epochs=2")


@pytest.mark.parametrize("size", [(8, 8), (16, 12)])
def test_evaluation_prediction_and_loaded_models_see_the_same(photos, cropping_run, size, tmp_path):
    target = tmp_path / "model.safetensors"
    nifbuild.export(cropping_run, format="safetensors", output=target)
    files = sorted((photos / "test").glob("*/*.png"))
    predicted = predict_images(cropping_run, files, top=3, size=size)
    for model in (nifbuild.load(cropping_run), nifbuild.load(target)):
        right = 0
        for file, prediction in zip(files, predicted, strict=True):
            image = Image.open(file).convert("L")  # 12 x 8
            whole, (left, top) = {
                (8, 8): ((16, 11), (4, 2)),  # 8 / 0.75 is 11; 11 * 12 / 8 is 16
                (16, 12): ((31, 21), (10, 2)),  # 16 / 0.75 is 21; 21 * 12 / 8 is 31
            }[size]
            image = image.resize(whole, Image.Resampling.BILINEAR)
            cut = image.crop((left, top, left + size[1], top + size[0]))
            seen = torch.from_numpy(np.asarray(cut)[None, None].copy())
            found = model.preprocess(file, size)
            assert torch.equal(found, model.normalize(seen))
            with torch.no_grad():
                shares = model(found).double().softmax(1)[0]
            best = int(shares.argmax())
            name, share = prediction.classes[0]
            assert (model.class_names[best], shares[best].item()) == (name, pytest.approx(share))
            right += name == file.parent.name
        assert right / len(files) == nifbuild.evaluate_run(cropping_run, size=size).only.top1
