"""python -m benchmarks.timeline; see command.py."""

import sys

from benchmarks.timeline.command import main

if __name__ == "__main__":
    sys.exit(main())
