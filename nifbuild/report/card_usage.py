"""What a model card says of how to use a model: Python that runs as it stands, beside the card.

Wherever the folder lies, and whatever it is called there: it names nothing outside itself.
"""

import json
from collections.abc import Iterator
from typing import Literal

from torch import Tensor

from nifbuild.data.crops import central_box
from nifbuild.report.show.markdown import code_block
from nifbuild.runs.loaded import DATA_KEY
from nifbuild.spec.common_data import CommonData

_ALIKE = (
    "The code cuts and scales an image as the spec says, but for rounding; "
    "`nifbuild.load(RUN).preprocess(FILE)` does it to the last digit."
)


def nifbuild_usage(file: str | None, *, is_per_pixel: bool) -> str:
    """For what `nifbuild.load` takes.

    Args:
        file: The name of a safetensors file beside the card; None: the card's folder is a run.
        is_per_pixel: Whether each pixel has a class, rather than each image.
    """
    path = file or "."
    last = (
        "classes = logits.argmax(1)  # of each pixel, as places in model.class_names"
        if is_per_pixel
        else "print(model.class_names[logits.argmax()])"
    )
    code = f"""import nifbuild

model = nifbuild.load({json.dumps(path)})
logits = model(model.preprocess("photo.jpg"))
{last}"""
    parts = ["With nifbuild installed, in this folder:", code_block(code, "python")]
    if file is None:
        commands = "" if is_per_pixel else f"nifbuild predict {path} photo.jpg\n"
        parts += [code_block(f"{commands}nifbuild evaluate {path}  # needs the data", "sh")]
    return "\n\n".join(parts)


def file_usage(
    file: str,
    feed: str,
    normalization: tuple[Tensor, Tensor] | None,
    input_shape: tuple[int | None, int, int, int],
    data: CommonData,
    *,
    format: Literal["onnx", "torch"],
    output: str,
    names_class: bool,
) -> str:
    """For ONNX and programs of torch.export, which need no nifbuild.

    Args:
        file: Its name, beside the card.
        feed: What it takes and gives, as a sentence without its dot.
        normalization: Mean and standard deviation of each channel, where white is 1; None: it takes
            pixels as they are.
        input_shape: Batch (None: any), channels, height and width.
        data: Says how images reach that size.
        format: Of the file.
        output: What it calls its output.
        names_class: Whether it gives an image a class, whose name the file knows.
    """
    lines = ["import json", ""] if names_class else []
    lines += ["import numpy as np", "import onnxruntime" if format == "onnx" else "import torch"]
    lines += _images(normalization, input_shape, data)
    if format == "onnx":
        lines.append(f"session = onnxruntime.InferenceSession({json.dumps(file)})")
        lines.append(f'({output},) = session.run(["{output}"], {{"images": images}})')
        texts = "session.get_modelmeta().custom_metadata_map"
    else:
        texts = "texts"
        lines.append(f'{texts} = {{"{DATA_KEY}": ""}}')
        lines.append(f"program = torch.export.load({json.dumps(file)}, extra_files={texts})")
        lines.append(f"{output} = program.module()(torch.from_numpy(images))")
    if names_class:
        lines.append(f'class_names = json.loads({texts}["{DATA_KEY}"])["class_names"]')
        lines.append(f"print(class_names[{output}[0].argmax()])")
    code = code_block("\n".join(lines), "python")
    return f"{feed[:1].upper()}{feed[1:]}. {_ALIKE}\n\nIn this folder:\n\n{code}"


def _images(
    normalization: tuple[Tensor, Tensor] | None,
    input_shape: tuple[int | None, int, int, int],
    data: CommonData,
) -> Iterator[str]:
    """Lines that make `images` of a file."""
    batch, channels, height, width = input_shape
    if channels not in (1, 3):
        yield ""
        yield f"images = np.zeros(({batch or 1}, {channels}, {height}, {width}), np.float32)"
        return
    mode = "L" if channels == 1 else "RGB"
    yield "from PIL import Image, ImageOps"
    yield ""
    yield f'image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("{mode}")'
    resampling = f"Image.Resampling.{data.interpolation.upper()}"
    wanted = (width, height)
    scaled = (round(width / data.crop_share), round(height / data.crop_share))
    if data.resize == "stretch":
        yield f"image = image.resize({scaled}, {resampling})"
    else:
        yield f"image = ImageOps.fit(image, {scaled}, {resampling})"
    if scaled != wanted:
        yield f"image = image.crop({central_box(scaled, wanted)})"
    yield f"pixels = np.asarray(image, np.float32).reshape({height}, {width}, {channels})"
    if normalization is not None:
        mean, std = (", ".join(f"{v:.6g}" for v in each.tolist()) for each in normalization)
        yield f"pixels = (pixels / 255 - np.float32([{mean}])) / np.float32([{std}])"
    yield "images = pixels.transpose(2, 0, 1)[None].copy()"
    if batch not in (None, 1):
        yield f"images = images.repeat({batch}, axis=0)  # it takes so many at once"
