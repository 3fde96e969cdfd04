"""Runs the `jaxsched` command with `python -m jaxsched`."""

import sys

from jaxsched.cli import main

if __name__ == "__main__":
    sys.exit(main())
