"""`python -m meshgnn.experiment`."""

import os
import sys

# Threads of torch that wait for each other sleep. By default they spin, which on cores that are shared with other
# programs makes a training step take several times as long. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from meshgnn.experiment.cli import entry

if __name__ == "__main__":
    sys.exit(entry())
