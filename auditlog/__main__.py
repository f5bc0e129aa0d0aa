"""``python -m auditlog``: the command line."""

import sys

from auditlog.cli import main

if __name__ == "__main__":
    sys.exit(main())
