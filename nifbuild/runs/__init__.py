"""A run on disk: who owns what, what belongs together, and the way back to a model.

Reading order: `directory` (what lies where), `documents` (what its files must hold), `loaded`.
"""
