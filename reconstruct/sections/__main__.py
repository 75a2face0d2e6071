"""`python -m reconstruct.sections`."""

import sys

from reconstruct.sections.command import entry

if __name__ == "__main__":
    sys.exit(entry())
