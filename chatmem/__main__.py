"""`python -m chatmem`, and the `chatmem` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. The version alone needs nothing else, and is there at once."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from chatmem import __version__

        try:
            print(f"chatmem {__version__}", flush=True)
        except OSError as error:
            sys.exit(f"The answer could not be written: {error.strerror}.")
        return
    from chatmem.cli import main as front_door

    front_door()


if __name__ == "__main__":
    main()
