"""What `interformer inspect` takes on the command line. No torch."""

import argparse


def add_inspect_arguments(parser: argparse.ArgumentParser) -> None:
    """PATH, --kind, --out."""
    parser.add_argument("path", metavar="PATH", help="a folder, file, glob or URI")
    parser.add_argument(
        "--kind", metavar="KIND", help="model.kind; default: interformer, or dcnv2 where there is no history"
    )
    parser.add_argument("--out", metavar="FILE", help="a path or URI: write the draft there instead of to the screen")
