"""`python -m meshgnn.registration`."""

import sys

from meshgnn.registration.command import entry

if __name__ == "__main__":
    sys.exit(entry())
