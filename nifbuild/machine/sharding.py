"""Weights shared out over processes: FSDP2, as Accelerate's own configuration asks for it.

`accelerate launch --config_file FILE` hands its configuration on in environment variables. Each
block of the model is then a unit whose weights are gathered while it runs. Everything else (files,
evaluation of a finished run) sees whole weights.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeGuard

from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from nifbuild.errors import Problem, SpecError
from nifbuild.machine.processes import world_size
from nifbuild.nn.step_graph import StepGraph
from nifbuild.spec.training import TrainSpec

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def weights_are_shared() -> bool:
    """Whether Accelerate's launcher asks for FSDP, and there are several processes."""
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    return asked and world_size() > 1


def require_shardable(spec: TrainSpec) -> None:
    """Raises SpecError where FSDP is asked for together with what does not work with it."""
    if weights_are_shared():
        problems = [*_problems_of_spec(spec), *_problems_of_launcher()]
        if problems:
            raise SpecError(problems)


def _problems_of_spec(spec: TrainSpec) -> Iterator[Problem]:
    refused = {
        "ema": (spec.ema is not None, "null"),
        "kernel_spread": (spec.kernel_spread > 0, "0"),  # reads filters outside of their block
        "channels_last": (spec.channels_last, "false"),
        "compile": (spec.compile, "false"),
        "precision": (spec.precision == "fp16", "bf16"),
    }
    for name, (is_set, instead) in refused.items():
        if is_set:
            fix = f"--set train.{name}={instead}, or launch without FSDP"
            what = f"{name} does not work with FSDP"
            yield Problem(what, path=f"train.{name}", fix=fix, code="fsdp")


def _problems_of_launcher() -> Iterator[Problem]:
    given = {name.removeprefix("FSDP_"): value for name, value in os.environ.items()}
    policy, classes = given.get("AUTO_WRAP_POLICY"), given.get("TRANSFORMER_CLS_TO_WRAP")
    by_class = policy == "TRANSFORMER_BASED_WRAP"
    blocks = StepGraph.__name__
    refused = {
        "fsdp_version: 2": given.get("VERSION", "1") != "2",
        # Layers read weights of those within them, which therefore must not be units.
        "fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP": policy == "SIZE_BASED_WRAP",
        f"fsdp_transformer_layer_cls_to_wrap: {blocks}": by_class and classes not in (None, blocks),
        "fsdp_offload_params: false": given.get("OFFLOAD_PARAMS", "").lower() == "true",
        # It would count batches into running statistics twice; `gradient_checkpointing` does not.
        "fsdp_activation_checkpointing: false": (
            given.get("ACTIVATION_CHECKPOINTING", "").lower() == "true"
        ),
    }
    for setting, is_wrong in refused.items():
        if is_wrong:
            what = f"Accelerate's configuration needs `{setting}`"
            yield Problem(what, fix="`accelerate config` asks for it", code="fsdp")


def share_out(accelerator: Accelerator) -> None:
    """Has `accelerator.prepare` share out the weights, where that is requested."""
    if not weights_are_shared():
        return
    state = accelerator.state
    if state.distributed_type != DistributedType.FSDP:
        # Accelerate takes no notice of FSDP on a CPU, where it works as well.
        state.distributed_type = DistributedType.FSDP
        state.fsdp_plugin = FullyShardedDataParallelPlugin()
    plugin = state.fsdp_plugin
    if plugin.auto_wrap_policy is not None:
        plugin.transformer_cls_names_to_wrap = [StepGraph.__name__]
    # Weights stay in float32, and autocast says what is computed in bfloat16, as in other runs:
    # small networks over frequencies lose too much in it.
    plugin.mixed_precision_policy = None
    plugin.cpu_ram_efficient_loading = False  # all processes have the same weights already


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be shared out; every process has to call it."""
    return tensor.full_tensor() if _is_shared(tensor) else tensor


def whole_state(state: dict[str, Any]) -> dict[str, Any]:
    """A state_dict with whole tensors; every process has to call it."""
    result: dict[str, Any] = tree_map_only(Tensor, whole, state)
    return result


def _is_shared(tensor: Tensor) -> "TypeGuard[DTensor]":
    # By its method, as it takes a second to import the class, which few runs need.
    return hasattr(tensor, "full_tensor")


def load_shares(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Loads whole tensors into a module whose own may be shared out."""
    own = module.state_dict()
    module.load_state_dict({n: _shared_as(t, own[n]) if n in own else t for n, t in state.items()})


def load_optimizer_shares(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """The same for an optimizer's state."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    shared = {
        index: {
            name: _shared_as(value, parameters[index]) if isinstance(value, Tensor) else value
            for name, value in of_parameter.items()
        }
        for index, of_parameter in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": shared})


def _shared_as(value: Tensor, own: Tensor) -> Tensor:
    if not _is_shared(own) or value.shape != own.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    # Every process has read the whole of it: nothing is sent.
    value = value.to(own.device)
    return distribute_tensor(value, own.device_mesh, own.placements, src_data_rank=None)
