"""`python -m interformer_rec` is `interformer`."""

import sys

from interformer_rec.cli import main

if __name__ == "__main__":
    sys.exit(main())
