"""`python -m meshgnn.registration.common`: see `meshgnn.registration.common.command`."""

import sys

from meshgnn.registration.common.command import entry

if __name__ == "__main__":
    sys.exit(entry())
