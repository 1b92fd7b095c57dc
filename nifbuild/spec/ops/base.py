"""What every op has: fields, a rule for its output shape, and the module it builds.

A new op is a class in one of this folder's files, named in `nifbuild.spec.ops.OP_CLASSES`.
A `Layer` has one input, a `Merge` several; a `Structure` stands for other ops and adds them to the
graph itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

from pydantic import Field

from nifbuild.spec.base import Identifier, Reference, Spec
from nifbuild.spec.ops.init import InitSection, Scheme

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Shape:
    """Shape of one sample: channels, then height and width for images, nothing more for vectors."""

    channels: int
    size: tuple[int, ...] = ()

    @property
    def is_image(self) -> bool:
        """Whether there are a height and a width."""
        return len(self.size) == 2

    @property
    def num_elements(self) -> int:
        """Values in one sample."""
        total = self.channels
        for extent in self.size:
            total *= extent
        return total

    def __str__(self) -> str:
        return "x".join(str(extent) for extent in (self.channels, *self.size))


Channels = tuple[tuple[int, int], ...]
"""Some of the channels of a tensor: ranges, each from its first channel up to before its second."""


def whole(x: Shape) -> Channels:
    """All channels of a tensor."""
    return ((0, x.channels),)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an op stands among those of its class in the network.

    Attributes:
        index: How many come before it.
        count: How many there are.
        index_of_all: The first of these with the places at which one is left out.
        count_of_all: The second with these.
    """

    index: int
    count: int
    index_of_all: int
    count_of_all: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Multiply-adds of one forward pass, by what they are for.

    Attributes:
        per_image: Those for each image.
        per_pass: Those done once, whatever the batch: what makes filters.
    """

    per_image: Mapping[str, int] = field(default_factory=dict)
    per_pass: Mapping[str, int] = field(default_factory=dict)

    def macs(self, batch_size: int = 1) -> int:
        """All of them for a batch."""
        return batch_size * sum(self.per_image.values()) + sum(self.per_pass.values())


class ShapeError(Exception):
    """An op cannot take its input; `field` names the field of the op that is at odds with it."""

    def __init__(self, what: str, fix: str = "", field: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix
        self.field = field


@dataclass(frozen=True, slots=True)
class Family:
    """Ops that pictures of a network show alike.

    Attributes:
        name: In legends; a word.
        color: Of their boxes.
        stands_out: Whether their boxes have a bold border.
    """

    name: str
    color: str
    stands_out: bool = False


OTHERS = Family("other", "#eeeeee")
"""Those that no legend explains."""


class Op(Spec):
    """The fields of every op."""

    op: str

    id: Identifier | None = None
    """Name of the module, and so of its weights in the state_dict. Null: the op's name, numbered
    where it occurs again. A structure without an id adds no level to the names. position: the
    number of modules before it in its level, as in a torch.nn.Sequential."""

    from_: Reference | None = Field(default=None, alias="from")
    """Where the input comes from: the id of an earlier op, `previous` or `input` (the model's).
    Null: the op before this one."""

    bodies: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Fields that hold ops, with the words that may stand there instead of ops."""

    without_ops: ClassVar[Mapping[str, str | None]] = {}
    """Those of `bodies` in which no ops may remain, with the word that then stands there."""

    is_its_body: ClassVar[bool] = False
    """Whether it is nothing but the ops of its `body`: without any it is not there."""

    counts_as_zero: ClassVar[bool] = False
    """Whether it multiplies no matrices, and only goes over its values: `torch.utils.flop_counter`,
    as others, counts that as 0."""

    family: ClassVar[Family] = OTHERS
    """How it looks in pictures."""

    is_small: ClassVar[bool] = False
    """Whether pictures show it as a word in the box of the op before it."""

    parallel: ClassVar[tuple[str, ...]] = ()
    """Those of `bodies` whose ops stand side by side. There a list of ops is short for a sequence,
    and a mapping of names to ops for sequences with these ids."""

    @property
    def word(self) -> str:
        """What it is."""
        return self.op

    def filter_size(self, x: Shape) -> tuple[int, int] | None:
        """Height and width of the window that it looks through, if any, for an input `x`."""
        return None


class Layer(Op):
    """An op with one input."""

    def placed(self, place: Place) -> "Layer":
        """The op at its place in the network."""
        return self

    def output_shape(self, x: Shape) -> Shape:
        """Shape of the output for one sample of shape `x`.

        Raises:
            ShapeError: If the op cannot take such an input.
        """
        raise NotImplementedError

    def reads(self, channels: Channels, x: Shape) -> Channels:
        """The channels of an input of shape `x` that these of the output are computed from."""
        return whole(x)

    def fewest_images(self, x: Shape) -> int:
        """How many images of shape `x` a training step must pass at once, at least."""
        return 1

    def build(self, x: Shape) -> "nn.Module | nn.Parameter":
        """The torch module for inputs of shape `x`, or a parameter that multiplies them."""
        raise NotImplementedError

    def scheme(self, section: InitSection) -> Scheme | None:
        """How the weights are drawn: as the op's own `init` says, or the spec's; None: as built."""
        return None

    def cost(self, x: Shape) -> Cost | None:
        """Multiply-adds for inputs of shape `x`; None where there is no rule for them."""
        return Cost() if self.counts_as_zero else None

    def dense_params(self, x: Shape) -> int | None:
        """Parameters that the same layer would have with a free weight for each filter tap.

        None for ops whose filters are stored tap by tap anyway, or that have none.
        """
        return None


class Merge(Op):
    """An op with several inputs."""

    def output_shape(self, *inputs: Shape) -> Shape:
        """Shape of the output for samples of these shapes.

        Raises:
            ShapeError: If the shapes do not fit together.
        """
        raise NotImplementedError

    def reads(self, channels: Channels, *inputs: Shape) -> tuple[Channels, ...]:
        """For each input, its channels that these of the output are computed from."""
        return tuple(whole(x) for x in inputs)

    def build(self, *inputs: Shape) -> "nn.Module":
        """The torch module for these inputs."""
        raise NotImplementedError

    def cost(self, *inputs: Shape) -> Cost | None:
        """Multiply-adds for these inputs; None where there is no rule for them."""
        return Cost() if self.counts_as_zero else None

    def dense_params(self, *inputs: Shape) -> int | None:
        """None: it has no filters."""
        return None


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor in the graph: the node that makes it (-1 is the input) and its shape per sample."""

    node: int
    shape: Shape


class GraphBuilder(Protocol):
    """What a structure may ask of the graph while it adds its ops."""

    def add(self, op: Layer | Merge, *inputs: Value, field: str = "") -> Value:
        """Adds one op; `field` is the field of the structure that speaks for it."""
        ...

    def body(self, field: str, x: Value) -> Value:
        """Adds the ops of the structure's `field`, one after another; returns the last output."""
        ...

    def branches(self, field: str, inputs: Sequence[Value]) -> list[Value]:
        """Adds the ops of the structure's `field`, each on an input of its own."""
        ...

    def source(self, reference: str, previous: Value) -> Value:
        """The value that the op's `from` means by a reference."""
        ...

    def start_at_zero(self, value: Value, field: str) -> None:
        """Lets the norm that makes the value start at a scale of 0."""
        ...

    def count_absent(self, op_class: type[Layer]) -> None:
        """Tells ops of this class of a place where one of them would be, and is not."""
        ...

    def implied(self, field: str, ops: "tuple[AnyOp, ...]", x: Value) -> Value:
        """Adds ops that the structure's `field` implies without spelling them out."""
        ...


class Structure(Op):
    """An op that stands for others."""

    def lower(self, graph: GraphBuilder, x: Value) -> Value:
        """Adds the ops it stands for and returns the output.

        Raises:
            ShapeError: If they do not fit together.
        """
        raise NotImplementedError


AnyOp = Layer | Merge | Structure


def need_image(x: Shape, op: str) -> tuple[int, int]:
    """Height and width of `x`.

    Raises:
        ShapeError: If `x` is a vector.
    """
    if not x.is_image:
        raise ShapeError(f"{op} takes images, and its input is a vector of {x}")
    return (x.size[0], x.size[1])
