"""A picture of a network.

Reading order: `blocks` (what is shown), `layout` (where), `picture` (as shapes), `render` (files).
"""
