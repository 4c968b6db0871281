"""Slash commands: one decorated function each. Its docstring is its help text. `table.py` has all of them."""
