"""What a spec file may say: its sections.

`RunSpec` is what a spec comes to; `SpecFile` adds the sections that only help to write it.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nifbuild.spec.base import (
    Identifier,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PositivePair,
    Reference,
    Spec,
    finding,
    text_like,
)
from nifbuild.spec.budget import BudgetSpec
from nifbuild.spec.data import DataSpec
from nifbuild.spec.ops import OpUnion
from nifbuild.spec.ops.init import InitSection
from nifbuild.spec.select import Selector
from nifbuild.spec.training import TrainSpec


class InputSpec(Spec):
    """The images that the model takes. Data that states its own `size` sets the size."""

    channels: PositiveInt = 3
    """Colour channels: 1 or 3 for images, which are converted as needed."""

    size: PositivePair = (224, 224)
    """Height and width, in pixels."""


class AuxiliaryHead(Spec):
    """A second output, whose loss is added to that of the model while training.

    So gradients reach earlier ops on a shorter way (Szegedy et al., arXiv 1409.4842). Evaluation,
    prediction, analysis and export leave it out; checkpoints have its weights.
    """

    from_: Annotated[Reference, Field(alias="from")]
    """Where its input comes from: the id of an op of the model, or `input`."""

    weight: PositiveFloat
    """What its loss is multiplied by before it is added."""

    body: Annotated[tuple[OpUnion, ...], Field(min_length=1)]
    """Its ops, in order; what they give has the shape of the model's output."""


class RunSpec(Spec):
    """A spec written out: an architecture, and the data and training for it."""

    version: Literal[1]
    """Version of the language."""

    name: Annotated[
        str,
        text_like(
            r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
            "letters, digits, dots, hyphens and underscores, a letter or digit first",
            max_length=100,
        ),
    ]
    """Name of the model and, under `runs/`, of its run. Left out: the file's name."""

    input: InputSpec = InputSpec()
    """The images that the model takes."""

    model: Annotated[tuple[OpUnion, ...], Field(min_length=1)]
    """The ops, in order."""

    auxiliary: dict[Identifier, AuxiliaryHead] | None = None
    """Auxiliary heads, by the name that their weights begin with."""

    init: InitSection = InitSection()
    """How the weights are drawn that training starts from, if not those of a checkpoint
    (`train.init`)."""

    data: DataSpec | None = None
    """The images to train and test on."""

    train: TrainSpec = TrainSpec()
    """How to train."""

    budget: BudgetSpec | None = None
    """What the model may cost: `nifbuild inspect` fails where it costs more."""

    license: (
        Annotated[
            str,
            text_like(
                r"^[A-Za-z0-9][A-Za-z0-9.+-]*$",
                "an identifier such as mit, apache-2.0 or cc-by-4.0, or other",
                max_length=60,
            ),
        ]
        | None
    ) = None
    """What others may do with the trained model: an identifier such as `mit`, `apache-2.0` or
    `cc-by-4.0`, or `other`. It stands in the model card of the run and of what is exported. Null:
    the card says that none is stated."""


class Insertion(Spec):
    """Ops that a patch puts beside those that it finds."""

    before: Any = None
    """Ops to put before each."""

    after: Any = None
    """Ops to put behind each."""


class Patch(Spec):
    """A change of the ops that a selector finds: `set`, `insert`, `replace` or `delete`.

    It changes modules, or else ops that stand for others, as a block or a repetition does. These,
    and all but `set`, are changed before anything is written out, from the outside in; a patch can
    change what one before it puts there. Then patches of modules follow, in order.
    """

    match: Selector = "**"
    """Path of the ops, by their ids: `*` stands for anything within one name, `**` for any number
    of names. An op without an id goes by its name, numbered where it occurs again."""

    where: dict[str, Any] = {}
    """Values that fields of the op must have, defaults included; also `in_channels`, the channels
    of its input. `groups: depthwise` also finds the number that says the same. Before ops are
    written out: fields that stand there, `op` among them."""

    set: dict[str, Any] = Field(default={}, min_length=1)
    """Fields to set, of a block also its arguments, and `body`, for these calls of it. A new `op`
    or `kind` drops the fields that it does not have."""

    insert: Insertion | None = None
    """Ops to put beside each that is found. They see the variables that it sees."""

    replace: Any = None
    """Ops to put in the place of each that is found."""

    delete: bool = False
    """Whether to leave out what is found."""

    expect: NonNegativeInt | None = None
    """Number of ops that must be found. Null: at least one."""

    @model_validator(mode="after")
    def _does_one_thing(self) -> "Patch":
        given = {
            "set": bool(self.set),
            "insert": self.insert is not None,
            "replace": self.replace is not None,
            "delete": self.delete,
        }
        asked = [name for name, is_given in given.items() if is_given]
        if len(asked) != 1:
            what = f"a patch says one of {', '.join(given)}; this one says "
            fix = "write set: {kind: implicit_frequency}, or a patch for each"
            raise finding(what + (" and ".join(asked) or "none of them"), fix)
        if self.insert is not None and self.insert.before is None and self.insert.after is None:
            fix = "write insert: {after: [...]}"
            raise finding("insert has neither `before` nor `after`", fix, ("insert",))
        return self


class Block(Spec):
    """Ops to be used by name, with arguments."""

    args: dict[str, Any] = {}
    """Arguments: a type (int, float, bool, str, any, ops) for a required one, a value for a
    default, or both as in `{type: any, default: 1}`. ops: a list of ops, which may be empty."""

    body: Annotated[tuple[OpUnion, ...], Field(min_length=1)]
    """The ops; `$name` stands for an argument."""


class SpecFile(RunSpec):
    """A spec as people write it."""

    extends: str | tuple[str, ...] = ()
    """Files that this one builds on, relative to it, or shipped specs by name, as in
    `nifbuild:architectures/resnet18`; later ones, then this one, win."""

    vars: dict[str, Any] = {}
    """Variables: `$name` in a value stands for one. Where `num_classes` is
    among them, data that knows its own sets it."""

    defaults: dict[str, dict[str, Any]] = {}
    """For each op, values for the fields that it leaves out."""

    blocks: dict[str, Block] = {}
    """Ops to be used by name."""

    patch: tuple[Patch, ...] = ()
    """Changes of the model, in order, those of extended files first: one after the other those
    that repeat, insert, replace or delete, and then those that set values."""
