"""`python -m meshgnn.mapping`."""

import sys

from meshgnn.mapping.command import entry

if __name__ == "__main__":
    sys.exit(entry())
