"""`python -m mirror` is the `mirror` command."""

import sys

from mirror.cli import main

if __name__ == "__main__":
    sys.exit(main())
