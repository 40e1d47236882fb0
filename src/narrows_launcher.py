"""The `narrows` command: a module beside the package, so that it can import the package lazily."""

import os
import sys


def main() -> None:
    """Run the command line without importing torch or transformers before a command needs them."""
    os.environ["NARROWS_LAZY"] = "1"
    try:
        from narrows.cli import app
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        # Worker processes and models loaded later see a normal import.
        del os.environ["NARROWS_LAZY"]
    app()


if __name__ == "__main__":
    main()
