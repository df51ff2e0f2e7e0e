"""What each subcommand of `clippan` does: a module each, imported only when it is called.

Importing all of the package takes seconds, which a command that needs little of it should not.
"""

import sys


def stop(status: int, reason: object) -> int:
    """Say why a command ends, and give its exit status."""
    print(f"clippan: {reason}", file=sys.stderr)
    return status
