"""A trained model where it runs, and what images have to go through before it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn

from nifbuild.data import Preprocess
from nifbuild.spec.data import Augment
from nifbuild.train.device import accelerator_on, determinism
from nifbuild.train.memory import explaining_lack_of_memory
from nifbuild.train.place import Placement
from nifbuild.train.trained import TrainedModel


@dataclass(frozen=True)
class Inference:
    """A model that is ready for images.

    Attributes:
        module: On its device, in eval mode.
        place: Its `evaluation_input` makes the model's input of images as bytes.
        accelerator: Says how processes meet, and the precision.
    """

    module: nn.Module
    place: Placement
    accelerator: Accelerator


@contextmanager
def inference(trained: TrainedModel, device: torch.device, batch_size: int) -> Iterator[Inference]:
    """Prepares a trained model as for the evaluation of its run, but for the device.

    Args:
        trained: The model.
        device: As from `resolve_device`.
        batch_size: Images that will pass at once.

    Raises:
        SpecError: If the device does not have the run's precision.
        RunError: If memory does not suffice while it is in use.
    """
    spec = trained.resolved.spec.train
    fix = "have fewer pass at once: --batch-size"
    with ExitStack() as stack:
        accelerator = stack.enter_context(accelerator_on(device, precision=spec.precision))
        stack.enter_context(determinism(spec.deterministic))
        stack.enter_context(
            explaining_lack_of_memory(trained.resolved, batch_size, accelerator.device, fix)
        )
        num_classes = len(trained.class_names)
        preprocess = Preprocess(Augment(), num_classes, trained.mean, trained.std)
        place = Placement(accelerator.device, spec.channels_last, preprocess.eval)
        yield Inference(place.module(trained.model), place, accelerator)
