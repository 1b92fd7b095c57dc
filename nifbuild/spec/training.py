"""What YAML may say under `train:`: how a model is optimised, evaluated, saved and logged."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from nifbuild.spec.base import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Share,
    Spec,
    text_like,
)
from nifbuild.spec.optimizers import AdamW, OptimizerSpec
from nifbuild.spec.schedules import Cosine, ScheduleSpec
from nifbuild.spec.select import MAX_SELECTORS, Selector

MAX_BATCH = 10**7
"""Most images of a batch."""

Selectors = Annotated[tuple[Selector, ...], Field(strict=False, max_length=MAX_SELECTORS)]

Precision = Literal["fp32", "bf16", "fp16"]
Tracker = Literal[
    "tensorboard",
    "wandb",
    "mlflow",
    "comet_ml",
    "clearml",
    "aim",
    "swanlab",
    "trackio",
    "dvclive",
]


class EarlyStopping(Spec):
    """When to end a run before its last epoch. The schedule is that of all `epochs`."""

    patience: PositiveInt
    """Epochs without improvement after which training ends, at the next evaluation."""

    min_delta: NonNegativeFloat = 0.0
    """How much better than at the last improvement the monitored figure must be to count as one: a
    share of the images for `top1` (0.001: a tenth of a point), nats for `loss`."""


class InitSpec(Spec):
    """The checkpoint whose weights training starts from."""

    from_: Annotated[str, Field(min_length=1)] = Field(alias="from")
    """A safetensors file, a file of `torch.save` that holds a state_dict (as it is, or under
    `state_dict` or `model`), a run directory, or one of a run's checkpoints; relative to the
    working directory."""

    skip: Selectors = ()  # a list, once it is no longer JSON
    """Selectors of weights, or of modules with all their weights, that start freshly drawn whatever
    the file has: `*` stands for anything within one name, `**` for any number of names."""


def _init_from(value: object) -> object:
    return {"from": value} if isinstance(value, str) else value


class TrainSpec(Spec):
    """How a model is trained. Every field has a default that suits small images."""

    epochs: NonNegativeInt = 50
    """Passes over the training images. Images that do not fill a last batch wait for the next
    epoch's order. A run may be resumed with another number: from there on, its learning rate is
    that of the schedule over so many. 0: none; the run holds the weights that it starts from, as of
    `init`, and their figures."""

    batch_size: Annotated[int, Field(ge=1, le=MAX_BATCH)] = 128
    """Images for each step of the optimizer, over all processes and micro-batches together: results
    do not depend on how many processes share them."""

    accumulate: PositiveInt = 1
    """Micro-batches into which each batch is cut to save memory; their gradients are averaged
    before the step. Batch normalisation sees one micro-batch at a time."""

    init: Annotated[
        InitSpec | None,
        BeforeValidator(_init_from, json_schema_input_type=str | InitSpec | None),
    ] = None
    """A checkpoint to start from, or its path alone. It must have every weight of the model in its
    shape, and no others, but for those of convolutions with filters as large as the image, which
    start freshly drawn where it has an ordinary convolution. Null: all start freshly drawn."""

    optimizer: OptimizerSpec = AdamW()
    """The optimizer."""

    schedule: ScheduleSpec = Cosine()
    """The learning rate over time, set anew for each step of the optimizer."""

    label_smoothing: Share = 0.1
    """Share of each target that is spread evenly over all classes while training; evaluation uses
    the labels as they are. 0: none."""

    class_weights: Literal["balanced"] | dict[str, NonNegativeFloat] | None = None
    """Weights of the classes in the loss while training, where some have many more images than
    others. `balanced`: all images over those of the class, over the number of classes, so that each
    class weighs as much. By name: so much, and 1 for those that are not named. The loss is the mean
    over images, not over weights. Null: all images weigh 1."""

    sampling: Literal["balanced"] | None = None
    """Which images an epoch has. `balanced`: as many as there are, but the same number of each
    class, so that those of small classes come several times, cut and changed anew each time, and
    of large ones some wait for another epoch. Null: each once."""

    kernel_spread: NonNegativeFloat = 0.0
    """Weight of a penalty on filters as large as the image that reach far: it is added to the loss,
    times the mean over layers and filters of sum |k| r^2 / sum |k|, where r is a tap's distance
    from the centre in halves of the image. 0: none."""

    clip_norm: PositiveFloat | None = None
    """Largest norm of the gradient of all parameters together; longer ones are scaled down. Null:
    no limit."""

    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights, which is then what is evaluated and
    selected. At step t the decay is at most (1 + t) / (10 + t), so that early weights are
    forgotten. Buffers, such as running statistics, are copied. Null: none."""

    precision: Precision = "fp32"
    """Type of most activations; weights and optimizer state are float32 in each. `fp16` scales the
    loss, and needs a GPU."""

    channels_last: bool = False
    """Hold images and filters with channels innermost, which is faster for ordinary convolutions on
    many GPUs."""

    compile: bool = False
    """Compile the training step with `torch.compile`. Where that fails, a warning says why and
    training goes on without it."""

    gradient_checkpointing: Selectors = ()
    """Selectors of blocks, as in `["layer1.*", "layer2.*"]`, that keep only their input for the
    backward pass and are computed again there: less memory for about a third more time, the same
    results. A block is a name that holds others; `*` stands for anything within one name, `**` for
    any number of names."""

    sync_batch_norm: bool = True
    """With several processes, take the statistics of batch normalisation over all of them; results
    then equal those of one process. False: each uses its own share, and the first one's running
    statistics are evaluated."""

    device: Annotated[
        str, text_like(r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$", "auto, cpu, cuda, cuda:1 or mps")
    ] = "auto"
    """`auto` (a CUDA GPU, else `mps`, else `cpu`), `cpu`, `cuda`, `cuda:1` (the second GPU) or
    `mps`."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Fixes the initial weights, the order of images, augmentation and dropout."""

    deterministic: bool = False
    """Use only operations whose result is the same each time on a GPU; an operation that has no
    such form is an error. Slower; on a CPU results repeat anyway."""

    evaluate_every: PositiveInt = 1
    """Epochs between evaluations; the last epoch is always evaluated. They use the validation
    split, or the test split where there is none."""

    checkpoint_every: PositiveFloat = 1.0
    """Epochs between checkpoints; 0.25 saves four times in each. The best, the last, and the state
    at an interruption are saved in any case."""

    keep: PositiveInt = 2
    """Newest checkpoints to keep; the best one is kept beside them."""

    trackers: tuple[Tracker, ...] = ("tensorboard",)
    """Where the figures go besides the run's own `metrics.jsonl`. All but `tensorboard` are
    packages of that name, to be installed. Where they write, and as whom, their own files and
    environment variables say, such as `WANDB_MODE=offline` or `MLFLOW_TRACKING_URI`."""

    monitor: Literal["top1", "loss", "miou"] = "top1"
    """The validation figure by which the best checkpoint is told: the highest accuracy, the lowest
    loss or, where each pixel has a class, the highest mean IoU. The latest wins a tie."""

    early_stopping: EarlyStopping | None = None
    """Ends training once the monitored figure no longer improves; needs a validation split, as
    test images must not decide. Null: all epochs are trained."""

    select: Literal["best", "last"] = "best"
    """The checkpoint whose figures are the run's result. `best` is by validation; without a
    validation split it is the last one, as choosing by test images would flatter the result."""

    @property
    def images_at_once(self) -> int:
        """Images that pass through the model at once, over all processes: a micro-batch."""
        return self.batch_size // self.accumulate

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size ({self.batch_size}) must be a multiple of accumulate"
                f" ({self.accumulate})"
            )
        return self

    @model_validator(mode="after")
    def _balances_once(self) -> Self:
        if self.sampling == "balanced" and self.class_weights == "balanced":
            raise ValueError(
                "sampling and class_weights are both `balanced`: one of them is enough"
            )
        return self

    @model_validator(mode="after")
    def _compiles_what_it_can(self) -> Self:
        if self.compile and self.gradient_checkpointing:
            raise ValueError("compile and gradient_checkpointing exclude each other")
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        warmup = self.schedule.warmup_epochs
        if self.epochs and warmup is not None and warmup > self.epochs:
            raise ValueError(
                f"schedule.warmup_epochs ({warmup:g}) is more than epochs ({self.epochs})"
            )
        return self


def gain(metric: str, figure: float, other: float) -> float:
    """By how much a figure is better than another one; a loss is the better the lower it is."""
    return other - figure if metric == "loss" else figure - other
