"""A study becomes runs, and the runs a verdict.

Reading order: `cells` (what is run, and where it lies), `run` (which are started when), `local` and
`on_ray` (who runs them), `process` and `worker` (one cell in a process of its own); then `plan`,
`collect`, `results`, `statistics`, `gate`; and how it looks: `study_tables`, `comment`, `junit`,
`report_page`, `accuracy_plots`, with all of them together in `report`.

Of a search: `trials` (what is written down of it), `sampler` (what Optuna is asked), `search_run`,
`search_plan`, `search_report`.
"""
