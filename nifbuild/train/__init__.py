"""A model becomes a run.

Reading order: `run` (what happens), `loop` (the training loop); the others are of one thing each.
"""
