"""A picture of a network.

Reading order: `boxes` (what is shown), `layout` (where), `picture` (as shapes), `render` (files).
"""
