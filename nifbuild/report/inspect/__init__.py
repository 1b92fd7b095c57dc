"""What a model costs before it is trained.

Reading order: `inspection` (the figures), `memory` (how it is predicted), `weightless` (the tensors
that take up none), `targets` (devices and optimizers); then `budget`, `compare`, `verify`, and how
it looks: `folding`, `table`. `request` and `result` are what the command asks for and gets.
"""

from nifbuild.report.inspect.inspection import Inspection, Row, inspect_spec
from nifbuild.report.inspect.memory import Memory, Prediction, predict
from nifbuild.report.inspect.targets import Target

__all__ = ["Inspection", "Memory", "Prediction", "Row", "Target", "inspect_spec", "predict"]
