"""The colors of the terminal: names of its own palette, which suit a dark background, a light one, or both."""

from __future__ import annotations

import os
from typing import NamedTuple

_NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")


class Colors(NamedTuple):
    """What is shown in which color of the terminal's palette: `cyan`, `bright_cyan`, or empty for no color."""

    accent: str = ""
    good: str = ""
    warn: str = ""
    error: str = ""
    keyword: str = ""
    faint: str = ""


THEMES = {
    "auto": Colors("cyan", "green", "yellow", "red", "magenta", "bright_black"),
    "dark": Colors("bright_cyan", "bright_green", "bright_yellow", "bright_red", "bright_magenta", "white"),
    "light": Colors("blue", "green", "magenta", "red", "magenta", "bright_black"),
    "plain": Colors(),
}


def colors_of(theme: str) -> Colors:
    """The colors of a theme. `auto` follows COLORFGBG, in which some terminals say what their background is."""
    if os.environ.get("NO_COLOR"):
        return THEMES["plain"]
    if theme == "auto" and os.environ.get("COLORFGBG", "").rpartition(";")[2] in ("7", "15"):
        return THEMES["light"]
    return THEMES[theme]


def sgr(color: str) -> str:
    """The parameter of the control sequence that selects a color (ECMA-48, SGR)."""
    is_bright = color.startswith("bright_")
    return str((90 if is_bright else 30) + _NAMES.index(color.removeprefix("bright_"))) if color else ""


def ansi_color(color: str) -> str:
    """The color's name in prompt-toolkit."""
    names = {"white": "gray", "bright_black": "brightblack", "bright_white": "white"}
    return f"ansi{names.get(color, color.replace('_', ''))}" if color else ""
