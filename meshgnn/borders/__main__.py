"""`python -m meshgnn.borders`."""

import sys

from meshgnn.borders.command import entry

if __name__ == "__main__":
    sys.exit(entry())
