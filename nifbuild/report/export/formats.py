"""How the files are written, and read back as anybody would."""

import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nifbuild.errors import Problem, SpecError
from nifbuild.report.export.plain import PlainModel
from nifbuild.report.export.source import Source
from nifbuild.runs.checkpoint import weights_bytes
from nifbuild.runs.loaded import header, load
from nifbuild.spec.ops import installed

Run = Callable[[Tensor], Tensor]

ONE_FILE_BYTES = 2**31 - 2**24
"""What protobuf can hold is 2 GiB; weights beyond this lie in a file beside the model's."""


@dataclass(frozen=True)
class Written:
    """A file that was written and read back.

    Attributes:
        run: Computes the logits of normalised images with what the file holds.
        facts: What is known of it, such as its opset.
    """

    run: Run
    facts: dict[str, Any]


def write_onnx(path: Path, source: Source, plain: PlainModel, batch: int | None) -> Written:
    """An ONNX model, opened with onnxruntime.

    Args:
        path: The file.
        source: What its metadata tells.
        plain: The model.
        batch: Images at once; None: any number.
    """
    import onnxruntime

    with _quiet_exporter(), torch.no_grad(), _naming_installed_ops(source):
        program = torch.onnx.export(
            _exported(plain, source, batch),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=[plain.output],
        )
    assert program is not None  # it is, unless a path is given
    _name_batch(program)
    metadata = header(source.resolved, source.class_names, source.mean, source.std)
    program.model.metadata_props.update(metadata)
    size = sum(t.numel() * t.element_size() for t in plain.state_dict().values())
    program.save(path, external_data=size > ONE_FILE_BYTES)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run([plain.output], {"images": images.numpy()})
        return torch.from_numpy(logits)

    opset = program.model.opset_imports[""]
    return Written(run, {"opset": opset, "checked_with": f"onnxruntime {onnxruntime.__version__}"})


def _name_batch(program: "torch.onnx.ONNXProgram") -> None:
    """Calls the axis that may have any length `batch`; the exporter has a number for its name."""
    from onnx_ir import Shape, SymbolicDim

    for value in (*program.model.graph.inputs, *program.model.graph.outputs):
        if value.shape is not None and isinstance(value.shape[0], SymbolicDim):
            value.shape = Shape(["batch", *value.shape[1:]])


def write_torch(path: Path, source: Source, plain: PlainModel, batch: int | None) -> Written:
    """An exported program of torch, loaded again; arguments as for `write_onnx`."""
    files = header(source.resolved, source.class_names, source.mean, source.std)
    with _quiet_exporter(), torch.no_grad():
        content = io.BytesIO()  # of a full disk, torch's own writer tells in riddles
        torch.export.save(_exported(plain, source, batch), content, extra_files=files)
        path.write_bytes(content.getbuffer())
        # Of a file whose name does not end in .pt2, torch would say that it cannot read it, and do.
        module = torch.export.load(io.BytesIO(path.read_bytes())).module()

    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = module(images)
        return logits

    return Written(run, {"checked_with": f"torch {torch.__version__}"})


def write_safetensors(path: Path, source: Source) -> Written:
    """The weights, with the spec in the header; rebuilt with `nifbuild.load`."""
    metadata = header(source.resolved, source.class_names, source.mean, source.std)
    path.write_bytes(weights_bytes(source.model, metadata))
    loaded = load(path)

    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = loaded(images)
        return logits

    return Written(run, {"checked_with": "nifbuild.load"})


@contextmanager
def _naming_installed_ops(source: Source) -> Iterator[None]:
    """While entered, what torch cannot write as ONNX is told, if ops of other packages are used."""
    try:
        yield
    except torch.onnx.OnnxExporterError as error:
        used = {node.op.op for node in source.resolved.graph.nodes} & installed.LOADED.keys()
        if not used:
            raise
        what = f"torch knows no ONNX for a part of this model: {error.__cause__ or error}"
        from_others = ", ".join(f"{op} ({installed.origin_of(op)})" for op in sorted(used))
        fix = f"ops of other packages: {from_others}\nuse --format torch or --format safetensors"
        raise SpecError(Problem(what.splitlines()[0], fix=fix, code="onnx")) from error


def require_packages() -> None:
    """Raises SpecError where the packages that ONNX needs are not installed."""
    names = ("onnx", "onnxscript", "onnxruntime")
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise SpecError(
            Problem(
                f"--format onnx needs {', '.join(missing)}",
                fix="pip install 'nifbuild[export]'",
                code="packages",
            )
        )


def _exported(plain: PlainModel, source: Source, batch: int | None) -> torch.export.ExportedProgram:
    shape = source.resolved.spec.input
    # With a single image, torch would take 1 for a constant.
    example = torch.zeros(batch or 2, shape.channels, *shape.size)
    dynamic = {"images": {0: torch.export.Dim("batch")}} if batch is None else None
    return torch.export.export(plain, (example,), dynamic_shapes=dynamic, strict=False)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without what torch's exporter says about itself and about torchvision, which is not used."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning
        )
        try:
            yield
        finally:
            logger.setLevel(level)
