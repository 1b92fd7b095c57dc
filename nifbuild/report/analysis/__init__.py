"""How large the filters of a trained run are, beside what they were before training.

Reading order: `request` (what is asked), `subject` (the models set side by side), `analysis` (what
is measured of each), then the measures: `filters`, `spectrum`, `components`, `receptive_field`; and
how it is told: `verdict`, `table`, `plot_curves`, `plot_images`, `page`, `write`.
"""

from nifbuild.report.analysis.analysis import Analysis, ModelFigures, analyze_run
from nifbuild.report.analysis.request import Request, read_request

__all__ = ["Analysis", "ModelFigures", "Request", "analyze_run", "read_request"]
