"""A model or a run becomes figures: `measure_*` never draws, `plot_*` never computes."""
