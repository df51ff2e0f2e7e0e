"""`python -m clippan_lib` is the command `clippan`."""

import sys

from clippan_lib.cli import main

sys.exit(main())
