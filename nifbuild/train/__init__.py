"""A model becomes a run: training, evaluation, the run directory."""
