"""`python -m chatmem`, and the `chatmem` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. The version alone needs nothing else, and is there at once."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from chatmem import __version__

        print(f"chatmem {__version__}")
        return
    from chatmem.cli import main as front_door

    front_door()


if __name__ == "__main__":
    main()
