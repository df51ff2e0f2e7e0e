"""`python -m clippan_lib` is the command `clippan`."""

import sys

from clippan_lib.cli import main

if __name__ == "__main__":
    sys.exit(main())
