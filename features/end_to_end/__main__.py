"""`python -m features.end_to_end`."""

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in `meshgnn.experiment.__main__`

from features.end_to_end.command import main

if __name__ == "__main__":
    sys.exit(main())
