"""YAML specs: text to a typed tree that knows where each value came from; no torch here."""
