"""`python -m coordinator.server.workers DESCRIPTOR`: a worker; its parent starts it so."""

import sys

from coordinator.importing import importing

with importing():
    from coordinator import logs  # noqa: F401 - first, see there
    from coordinator.server.workers.worker import main

if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
