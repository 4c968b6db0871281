"""`python -m chatmem` and the `chatmem` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. `--version` is answered without importing anything else."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from chatmem import __version__

        try:
            print(f"chatmem {__version__}", flush=True)
        except OSError as error:
            sys.exit(f"Cannot write the output: {error.strerror}.")
        return
    try:
        from chatmem.cli.main import main as run_cli
    except KeyboardInterrupt:
        sys.exit(130)
    run_cli()


if __name__ == "__main__":
    main()
