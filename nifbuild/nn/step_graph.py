"""A module that runs its children as a graph."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Step(NamedTuple):
    """One child and the values it takes and makes, each value a number of the caller's choosing."""

    child: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class StepGraph(nn.Module):
    """Runs its children in order, each on the input or on what earlier ones made.

    A child may be a parameter: its step multiplies by it. So a scale can be named as published
    models name theirs, `block.layer_scale`, where a module would add another level to the name.

    A value is dropped after its last use, so that inference holds no more than the graph needs.

    In eval mode, children that only the outputs of training depend on do not run.

    Args:
        children: The children by name, in the order in which they run.
        steps: One for each child, in the same order.
        inputs: The values that the caller gives, in the order of `forward`'s arguments.
        outputs: The values that are returned: one tensor, or a tuple of several.
        training_outputs: Values that are returned after these while training.
        recompute: While training, keep the inputs alone for the backward pass and run the children
            again there (gradient checkpointing: Chen et al., arXiv 1604.06174). Results are the
            same, bit for bit: random numbers repeat, and running statistics move once.
    """

    def __init__(
        self,
        children: Mapping[str, nn.Module | nn.Parameter],
        steps: Sequence[Step],
        inputs: Sequence[int],
        outputs: Sequence[int],
        training_outputs: Sequence[int] = (),
        *,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        for name, child in children.items():
            if isinstance(child, nn.Parameter):
                self.register_parameter(name, child)
            else:
                self.add_module(name, child)
        # Underscores, as a child may well be called `outputs`.
        self._steps = tuple(steps)
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)
        self._training_outputs = tuple(training_outputs)
        self._recompute = recompute
        self._plan()

    def _plan(self) -> None:
        every = (*self._outputs, *self._training_outputs)
        needed = _needed(self._steps, self._outputs) if self._training_outputs else self._steps
        self._plans = {
            training: (steps, _last_uses(steps, outputs), outputs)
            for training, steps, outputs in (
                (True, self._steps, every),
                (False, needed, self._outputs),
            )
        }

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The outputs for the given inputs; shapes are those of the children."""
        if not (self._recompute and self.training and torch.is_grad_enabled()):
            return self._run(*inputs)
        outputs: Tensor | tuple[Tensor, ...] = checkpoint(
            self._run,
            *inputs,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _buffers_set_aside(self)),
        )
        return outputs

    def _run(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        values = dict(zip(self._inputs, inputs, strict=True))
        del inputs
        steps, last_uses, wanted = self._plans[self.training]
        for step, done in zip(steps, last_uses, strict=True):
            arguments = [values[index] for index in step.inputs]
            for index in done:
                del values[index]
            child = getattr(self, step.child)
            result = child(*arguments) if isinstance(child, nn.Module) else arguments[0] * child
            del arguments
            made = result if isinstance(result, tuple) else (result,)
            values.update(zip(step.outputs, made, strict=True))
            del result, made
        outputs = tuple(values[index] for index in wanted)
        return outputs[0] if len(outputs) == 1 else outputs


def leave_out_training_outputs(graph: StepGraph) -> None:
    """Takes them out of a graph, with the children that only they depend on, and their weights."""
    needed, _, _ = graph._plans[False]
    for step in graph._steps:
        if step not in needed:
            delattr(graph, step.child)
    graph._steps, graph._training_outputs = needed, ()
    graph._plan()


@contextmanager
def _buffers_set_aside(module: nn.Module) -> Iterator[None]:
    """Lets a forward pass write to copies: it was run before, and has left its traces then.

    Batch normalisation would count the batch into its running statistics twice. It is not enough to
    keep it from doing so: the pass has to save as many tensors as the first one, those statistics
    among them.
    """
    owners = [(child, dict(child._buffers)) for child in module.modules() if child._buffers]
    try:
        for child, buffers in owners:
            for name, buffer in buffers.items():
                child._buffers[name] = None if buffer is None else buffer.clone()
        yield
    finally:
        for child, buffers in owners:
            child._buffers.update(buffers)


def _needed(steps: tuple[Step, ...], outputs: tuple[int, ...]) -> tuple[Step, ...]:
    """The steps that these outputs depend on."""
    values, needed = set(outputs), []
    for step in reversed(steps):
        if values.intersection(step.outputs):
            values.update(step.inputs)
            needed.append(step)
    return tuple(reversed(needed))


def _last_uses(steps: tuple[Step, ...], outputs: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """For each step, the values that nothing needs after it."""
    needed = set(outputs)
    last_uses: list[tuple[int, ...]] = []
    for step in reversed(steps):
        last_uses.append(tuple(i for i in dict.fromkeys(step.inputs) if i not in needed))
        needed.update(step.inputs)
    return tuple(reversed(last_uses))
