"""``python -m critwin``: the command line."""

import sys

from critwin.cli import main

if __name__ == "__main__":
    sys.exit(main())
