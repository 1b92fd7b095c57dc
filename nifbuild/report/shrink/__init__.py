"""From a run with filters as large as the image to one with small ordinary convolutions.

Reading order: `shrink` (what happens), `windows` (how small), `ordinary` (the exact convolution),
`spec` (the new spec and model), `changes` (bound and change), `search` (`--max-drop`).
"""
