"""Write `config.example.toml` from the settings: `python -m tests.write_example_config`."""

from __future__ import annotations

from pathlib import Path

from chatmem.app import SCHEMA
from chatmem.config.example import example_config

if __name__ == "__main__":
    (Path(__file__).parents[1] / "config.example.toml").write_text(example_config(SCHEMA))
