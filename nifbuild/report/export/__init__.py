"""From a model to files that other programs load.

Reading order: `export` (what happens), `source` (run or spec), `plain` (the filters as constants),
`formats` (how each file is written and read back).
"""
