"""How reports look: units, tables, Markdown, plots."""
