"""A picture of a network: `blocks` (what is drawn), `layout` (where), `render` and `mermaid`."""
