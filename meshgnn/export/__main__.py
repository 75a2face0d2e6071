"""`python -m meshgnn.export`."""

import sys

from meshgnn.export.command import entry

if __name__ == "__main__":
    sys.exit(entry())
