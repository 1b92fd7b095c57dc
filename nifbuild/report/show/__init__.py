"""How reports look and are written: units, tables, plots, files."""
