"""The end of `interformer data --help`. In: the recipes; out: each with what it makes, what it needs and its options."""

import textwrap

from interformer_rec.data.recipes.catalog import RECIPES, Recipe

# What an option means, in every recipe that has it.
OPTIONS = {
    "check": "md5 compares with the published checksums; none takes a sample of the files",
    "days": "first and last day of the rows; the last one is the holdout",
    "fields": "noise id fields, one table each",
    "files": "files of the training rows",
    "groups": "histories a row",
    "households": "percent of the households that are kept, each with all of its rows",
    "history": "events kept of each history: the newest",
    "items_a_day": "items that appear each day",
    "life": "days in which an item is shown",
    "max_length": "events of the longest history; one number, or one a history: 200,50",
    "negatives": "drawn products for a clicked one; completejourney: a household, store and week",
    "partitions": "days, a folder each",
    "rows": "training rows; valid and test have a tenth each",
    "rows_a_day": "rows of a day",
    "seed": "of the random numbers: the same seed gives the same rows",
    "test": "first and last day of the test rows",
    "train": "first and last day of the training rows",
    "users": "the same on all days",
    "valid": "first and last day of the validation rows",
    "vocab": "ids of the items and of the largest noise field",
}


def text() -> str:
    """Lines for a terminal."""
    parts = [line for name, recipe in RECIPES.items() for line in _recipe(name, recipe)]
    return "\n".join(["recipes, and their options with defaults:", *parts])


def _recipe(name: str, recipe: Recipe) -> list[str]:
    needs = f"needs --raw: {recipe.source.files}, from {recipe.source.url}" if recipe.source else ""
    if recipe.source and not recipe.source.by_hand:
        needs = "downloads its files, or takes them from --raw"
    body = [recipe.summary, *([needs] if needs else [])]
    lines = [
        f"  {name}",
        *(
            line
            for part in body
            for line in textwrap.wrap(part, 110, initial_indent="    ", subsequent_indent="      ")
        ),
    ]
    return [
        *lines,
        *(f"    --set {f'{option}={value}':32} {OPTIONS[option]}" for option, value in recipe.options.items()),
    ]
