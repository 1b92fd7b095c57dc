"""Names of ops while a model is written out: what patches of structure find them by.

They are those that the modules will have, as far as that is known before shapes are.
"""

from collections import Counter

from nifbuild.spec.names import POSITION


class WrittenLevel:
    """A level of names.

    Attributes:
        path: The ids around it, joined by dots.
        position: Number of modules so far; None where that depends on shapes, as it does behind a
            residual without an id.
    """

    def __init__(self, path: str = "", counts: bool = True) -> None:
        """`counts` is False for ops that were not there: they take no number from the others."""
        self.path = path
        self.position: int | None = 0 if counts else None
        self._numbers: Counter[str] | None = Counter() if counts else None

    def beside(self) -> "WrittenLevel":
        """The same level for ops that a patch puts there, which others are not numbered after."""
        return WrittenLevel(self.path, counts=False)

    def within(self, id: str) -> "WrittenLevel":
        """The level that the op of this id opens."""
        return WrittenLevel(self.path_of(id))

    def path_of(self, id: str) -> str:
        """The path of the op of this id."""
        name = str(self.position) if id == POSITION and self.position is not None else id
        return f"{self.path}.{name}" if self.path else name

    def next_of(self, op: str) -> str | None:
        """The path of the next op without an id, by what it is; None where it has none."""
        if self._numbers is None:
            return None
        self._numbers[op] += 1
        number = self._numbers[op]
        return self.path_of(op if number == 1 else f"{op}_{number}")

    def count(self, modules: int | None) -> None:
        """Notes that some modules were added; None: their number depends on shapes."""
        before = self.position
        self.position = None if before is None or modules is None else before + modules
