"""Predicts the memory of training and inference: one step on tensors that take up none."""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nifbuild.compile import build_skeleton
from nifbuild.errors import SpecError
from nifbuild.nn import GlobalConv2d
from nifbuild.nn.derived import DerivedTensors
from nifbuild.report.inspect.targets import Target, optimizer_bytes, optimizer_workspace
from nifbuild.report.inspect.weightless import Trace, Weightless, weightless_module
from nifbuild.spec.images_at_once import too_few_images
from nifbuild.spec.optimizers import Optimizer
from nifbuild.spec.recompute import recomputed_blocks
from nifbuild.spec.resolve import Resolved
from nifbuild.train.objective import Minimised, Objective
from nifbuild.train.optim import parameter_groups


@dataclass(frozen=True, slots=True)
class Saved:
    """What a module keeps for the backward pass, in bytes.

    Attributes:
        total: All of it that no module before keeps anyway.
        fixed: The part that does not depend on the batch: spectra of filters and what made them,
            copies of weights in half precision.
    """

    total: int = 0
    fixed: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of tensors, by what they are for.

    Attributes:
        weights_bytes: Parameters.
        buffers_bytes: Running statistics.
        gradients_bytes: One for each parameter, in its dtype.
        optimizer_bytes: What the optimizer keeps from step to step.
        ema_bytes: The copy that a moving average keeps.
        input_bytes: The images and labels of a batch.
        activations_bytes: What is alive between forward and backward pass, beyond the above.
        ddp_buckets_bytes: What training in several processes adds to the peak: a copy of the
            gradients to exchange.
        train_peak_bytes: The most that is alive at once in a step, in one process.
        train_peak_phase: When: forward, backward or optimizer.
        inference_peak_bytes: The same without gradients, spectra being kept.
    """

    weights_bytes: int
    buffers_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    ema_bytes: int
    input_bytes: int
    activations_bytes: int
    ddp_buckets_bytes: int
    train_peak_bytes: int
    train_peak_phase: str
    inference_peak_bytes: int

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The memory of a batch, and what each module saves."""

    batch_size: int
    memory: Memory
    saved: dict[str, Saved] = field(repr=False)


def predict(
    resolved: Resolved, batch_size: int, target: Target, optimizer: Optimizer | None = None
) -> Prediction:
    """Predicts the memory of a training step and of inference.

    Counts what torch's allocator hands out. On CUDA that leaves out what lies beside it: the
    driver's context, and what cuDNN, cuBLAS and cuFFT ask for as workspace. On a CPU it holds for
    this machine, with as many threads as torch has: convolutions that may make the peak are tried,
    with at most `workspace.MAX_TRIED_BYTES` of images and features, and of filters.

    Args:
        resolved: The spec.
        batch_size: Images at once on one device.
        target: For what to predict.
        optimizer: None: the spec's.
    """
    problem = too_few_images(resolved.graph, batch_size, resolved.tree)
    if problem is not None:
        raise SpecError(problem)
    step = _Step(resolved, batch_size, target, optimizer or resolved.spec.train.optimizer)
    return Prediction(batch_size, step.memory(), step.saved)


class _Step:
    """One training step and one inference of a model without values."""

    def __init__(
        self, resolved: Resolved, batch_size: int, target: Target, optimizer: Optimizer
    ) -> None:
        self.resolved, self.batch_size = resolved, batch_size
        self.target, self.optimizer = target, optimizer
        self.saved: dict[str, Saved] = {}
        channels_last = resolved.spec.train.channels_last
        self.layout = torch.channels_last if channels_last else torch.contiguous_format

    def _model(self) -> nn.Module:
        model = build_skeleton(self.resolved)
        return weightless_module(model.to(memory_format=self.layout))  # type: ignore[call-overload]

    def memory(self) -> Memory:
        inference_peak = self._inference()
        model = self._model()
        trace = self.target.trace()
        parameters, buffers = list(model.parameters()), list(model.buffers())
        weights = _hold(trace, parameters)
        buffer_bytes = _hold(trace, buffers)
        ema = weights + buffer_bytes if self.resolved.spec.train.ema is not None else 0
        groups = parameter_groups(model, self.optimizer)
        state = optimizer_bytes(self.optimizer, groups)
        trace.add(ema + state)
        peaks: dict[str, int] = {}
        with trace, self.target.computing():
            images, labels = self._batch()
            before = trace.current
            # The second micro-batch finds the gradients of the first; the others are like it.
            for _ in range(min(self.resolved.spec.train.accumulate, 2)):
                trace.peak = trace.current
                # As in training, logits last until there are others.
                found = self._minimised(model, images, labels)
                activations = trace.current - before
                peaks["forward"], trace.peak = trace.peak, trace.current
                (found.loss + found.penalty).backward()
                peaks["backward"] = trace.peak
                before = trace.current
            workspace = optimizer_workspace(self.optimizer, groups, self.target.device)
            peaks["optimizer"] = trace.current + workspace
            input_bytes = images.nbytes + labels.nbytes
        phase = max(peaks, key=lambda name: peaks[name])
        return Memory(
            weights_bytes=weights,
            buffers_bytes=buffer_bytes,
            gradients_bytes=weights,
            optimizer_bytes=state,
            ema_bytes=ema,
            input_bytes=input_bytes,
            activations_bytes=activations,
            ddp_buckets_bytes=weights,
            train_peak_bytes=peaks[phase],
            train_peak_phase=phase,
            inference_peak_bytes=inference_peak,
        )

    def _batch(self) -> tuple[Tensor, Tensor]:
        shape = self.resolved.graph.input_shape
        sizes = (self.batch_size, shape.channels, *shape.size)
        images = torch.empty(sizes, memory_format=self.layout)
        assert isinstance(images, Weightless)
        images.per_image = True
        output = self.resolved.graph.output_shape
        if blends(self.resolved):
            return images, torch.empty(self.batch_size, output.num_elements)
        if output.is_image:
            return images, torch.empty(self.batch_size, *output.size, dtype=torch.uint8)
        return images, torch.empty(self.batch_size, dtype=torch.int64)

    def _minimised(self, model: nn.Module, images: Tensor, targets: Tensor) -> Minimised:
        """What training computes of a batch; notes what the model's parts save for that."""
        objective = Objective.of(model, self.resolved)
        with _saving(model, self.resolved, images) as saved:
            found = objective(model, images, targets, self.target.autocast)
        self.saved = saved
        return found

    def _inference(self) -> int:
        model = self._model().eval()
        trace = self.target.trace()
        _hold(trace, [*model.parameters(), *model.buffers()])
        keeping = [m for m in model.modules() if isinstance(m, GlobalConv2d)]
        for layer in keeping:
            layer._spectra = _KeptTensors()
        with trace, self.target.computing(), torch.no_grad():
            images, _ = self._batch()
            for _ in range(2 if keeping else 1):  # once the spectra are there, they all are
                with self.target.autocast():  # at its end it lets go of weights in half precision
                    model(images)
        return trace.peak


def blends(resolved: Resolved) -> bool:
    """Whether training targets are shares of classes [batch, classes]."""
    return resolved.spec.data is not None and resolved.spec.data.augment.blends


class _KeptTensors(DerivedTensors):
    """Keeps the spectra of a trace, as inference does those with values."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[object, Tensor] = {}

    def get(
        self, key: object, parameters: Sequence[Tensor], compute: Callable[[], Tensor]
    ) -> Tensor:
        """The tensor kept for `key`, or a new one."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]


def _hold(trace: Trace, tensors: Iterable[Tensor]) -> int:
    """Counts tensors that are there from the start; returns their bytes."""
    total = 0
    for tensor in tensors:
        assert isinstance(tensor, Weightless)
        trace.hold(tensor)
        total += tensor.nbytes
    return total


@contextmanager
def _saving(model: nn.Module, resolved: Resolved, images: Tensor) -> Iterator[dict[str, Saved]]:
    """Fills a mapping from node to what it saves while the model runs."""
    modules = dict(model.named_modules())
    paths = [node.path for node in resolved.graph.nodes]
    savers = _savers(resolved, modules)
    known = {_storage(t) for t in (*model.parameters(), *model.buffers(), images)}
    saved: dict[str, Saved] = {path: Saved() for path in paths}
    stack: list[str] = []

    def pack(tensor: Tensor) -> Tensor:
        assert isinstance(tensor, Weightless)
        key, size = _storage(tensor), tensor.meta.untyped_storage().nbytes()
        if key not in known and stack:
            known.add(key)
            alive.append(tensor.meta.untyped_storage())
            path = savers[stack[-1]]
            fixed = 0 if tensor.per_image else size
            saved[path] = Saved(saved[path].total + size, saved[path].fixed + fixed)
        # Not the tensor itself: an output that holds its own history would never be freed.
        return tensor.detach()

    alive: list[Any] = []  # a freed storage's number may come again
    handles = []
    for path in savers:
        enter = modules[path].register_forward_pre_hook(lambda *_, path=path: stack.append(path))
        leave = modules[path].register_forward_hook(lambda *_: stack.pop() and None)
        handles += [enter, leave]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved
    alive.clear()
    for handle in handles:
        handle.remove()


def _savers(resolved: Resolved, modules: Container[str]) -> dict[str, str]:
    """For each module that saves something itself, the node that it is counted for."""
    savers: dict[str, str] = {}
    for node in resolved.graph.nodes:
        if node.path in modules:
            savers[node.path] = node.path
        else:  # a factor, multiplied in by the module that holds it
            savers.setdefault(node.path.rpartition(".")[0], node.path)
    selectors = resolved.spec.train.gradient_checkpointing
    for block in recomputed_blocks(resolved.graph, selectors):  # it saves its input
        inside = (n.path for n in resolved.graph.nodes if n.path.startswith(f"{block}."))
        savers[block] = next(inside)
    return savers


def _storage(tensor: Tensor) -> int:
    assert isinstance(tensor, Weightless)
    number: int = tensor.meta.untyped_storage()._cdata
    return number
