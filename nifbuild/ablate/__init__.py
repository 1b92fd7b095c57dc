"""A study becomes runs, and the runs a verdict.

Reading order: `cells` (what is run, and where it lies), `run` (which are started when), `local` and
`on_ray` (who runs them), `process` and `worker` (one cell in a process of its own); then `plan`,
`collect`, `results`, `statistics`, `gate`; and how it looks: `study_tables`, `comment`, `junit`,
`accuracy_plots`, with all of them together in `report`.
"""
