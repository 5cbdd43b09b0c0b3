"""`python -m orchestrator`, and the console script `escrow`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; ends the process with one of the documented exit codes."""
    try:
        from orchestrator.cli.main import app
    except ImportError as error:
        # Nothing of ours can be relied on here: not even what prints errors.
        if "--debug" in sys.argv:
            raise
        sys.stderr.write(f"escrow: Escrow is not completely installed: {error}. Install it again, or see more with --debug.\n")
        sys.exit(70)
    except KeyboardInterrupt:
        sys.exit(130)
    app(prog_name="escrow")


if __name__ == "__main__":
    main()
