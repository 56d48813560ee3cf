"""`python -m edged` is the same as `edged`."""

from __future__ import annotations

import sys

from edged.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
