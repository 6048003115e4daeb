"""Options of `interformer data`. In: a parser, or what it has read; out: the same with them, a recipe's options by name. No torch here."""

import argparse

from interformer_rec.errors import InputError


def add_data_arguments(one: argparse.ArgumentParser) -> None:
    """A recipe, where its files go, what it is told."""
    one.add_argument("name", metavar="NAME", help="a recipe of the list below")
    one.add_argument("--out", metavar="DIR", required=True, help="the folder to write")
    one.add_argument("--raw", metavar="DIR", help="the data set as its owners publish it, if you have it already")
    one.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help="an option of the recipe")


def options(pairs: list[str]) -> dict[str, str]:
    """["rows=100", ...] -> {"rows": "100", ...}."""
    split = [pair.partition("=") for pair in pairs]
    for (name, equals, _), pair in zip(split, pairs, strict=True):
        if not (name and equals):
            raise InputError(f"--set {pair}: expected name=value, for example --set rows=100000")
    return {name: value for name, _, value in split}
