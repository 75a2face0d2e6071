"""`python -m meshgnn.experiment`."""

import sys

from meshgnn.experiment.cli import entry

if __name__ == "__main__":
    sys.exit(entry())
