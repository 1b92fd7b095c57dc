"""Whether a model's output suits data with a class for each pixel is told at once."""

import pytest

NET = """
version: 1
name: net
vars: {num_classes: 2}
input: {channels: 1, size: 16}
model:
  - {id: stem, op: conv, out_channels: 4, kernel_size: 3}
  - relu
"""
IMAGE = NET + "  - {id: head, op: conv, out_channels: $num_classes, kernel_size: 1}\n"
VECTOR = (
    NET + "  - global_avg_pool\n  - flatten\n  - {id: fc, op: linear, out_features: $num_classes}\n"
)
MASKS = "data: {source: distant_mark, distance: 3, size: [16, 16]}\n"
SEGMENTATION = "data: {source: segmentation, path: nowhere, classes: [sky, road, car]}\n"
DIGITS = "data: {source: digits}\n"


def suiting(text):
    """The variable agrees with the data; in one file with it, another number is an error itself."""
    known = 3 if SEGMENTATION[:30] in text else 10 if DIGITS in text else 2
    return text.replace("{num_classes: 2}", f"{{num_classes: {known}}}")


def test_data_says_its_classes_and_size(resolve):
    assert str(resolve(suiting(IMAGE + SEGMENTATION)).graph.output_shape) == "3x16x16"
    assert str(resolve(IMAGE + MASKS).graph.output_shape) == "2x16x16"
    assert resolve(suiting(IMAGE + SEGMENTATION)).spec.data.per_pixel


WRONG = {
    "a vector": (
        VECTOR + MASKS,
        "spec.yaml:11:5: fc: the model ends in a vector of 2, and the data has a class for each "
        "pixel",
        "a conv of `out_channels: $num_classes` and `kernel_size: 1`, without pooling",
    ),
    "another size": (
        IMAGE.replace("kernel_size: 3", "kernel_size: 3, stride: 2") + MASKS,
        "head: the model ends in an image of 2x8x8, and the data has a class for each pixel of "
        "1x16x16",
        "`upsample` or `conv_transpose`",
    ),
    "other classes": (
        IMAGE.replace("$num_classes", "$num_classes + 2") + SEGMENTATION,
        "head: the model gives 5 outputs, and the data has 3 classes",
        "write `out_channels: $num_classes`",
    ),
    "an image for classes": (
        IMAGE + DIGITS,
        "head: the model ends in an image of 10x16x16, and classes need a vector",
        "`source: segmentation`",
    ),
    "weights of what is not counted": (
        IMAGE + MASKS + "train: {class_weights: balanced}\n",
        "spec.yaml:11:24: train.class_weights: `balanced` counts images of each class",
        "class_weights: {NAME: 2.5}",
    ),
    "draws of what is not counted": (
        IMAGE + MASKS + "train: {sampling: balanced}\n",
        "spec.yaml:11:19: train.sampling: `balanced` draws images of each class",
        "leave it out; class_weights: {NAME: 2.5} weighs classes",
    ),
    "a figure of masks": (
        VECTOR + DIGITS + "train: {monitor: miou}\n",
        "train.monitor: a mean IoU is of data with a class for each pixel",
        "monitor: top1, or loss",
    ),
    "a change that fits no masks": (
        IMAGE + SEGMENTATION.replace("}", ", augment: {mixup: 0.2}}"),
        "data.augment.mixup: `mixup` does not fit data with a class for each pixel",
        "crop and flip move images and masks alike",
    ),
    "no classes": (
        IMAGE + SEGMENTATION.replace(", classes: [sky, road, car]", ""),
        "data.classes: missing field `classes`",
        "The names of the classes",
    ),
    "another number of classes": (
        IMAGE + SEGMENTATION.replace("}", ", num_classes: 4}"),
        "data.num_classes: the data has 3 classes, not 4",
        "num_classes: 3",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes(problems, case):
    text, what, fix = WRONG[case]
    (found,) = problems(suiting(text))
    assert what in found and fix in found
