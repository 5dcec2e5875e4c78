"""The `mirror` command, also as `python -m mirror`."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command; returns its exit code. What a shell asks for while somebody types is answered without
    importing the rest of the program."""
    from mirror import completion

    if tuple(sys.argv[1:3]) == completion.CALL:
        return completion.run(sys.argv[3:], os.environ)
    from mirror import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
