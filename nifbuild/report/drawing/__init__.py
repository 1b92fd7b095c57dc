"""A picture of a network.

Reading order: `blocks` (what is shown), `grid` and `layout` (where), `draw` (as shapes), `render`
(SVG and PNG); `mermaid` needs the blocks only; `save` is the whole way.
"""
