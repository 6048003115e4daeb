"""How to make a public data set that is not there. In: a path that leads nowhere; out: the command that would write it, for the message.

The names are those of recipes/catalog.py, which a test compares: reading files loads no recipe.
"""

import os
import re
import shlex

from interformer_rec.redaction import redact

# name -> whether its owners' files have to be fetched by hand
RECIPES = {
    "amazon_electronics_x1": True,
    "completejourney": False,
    "criteo": True,
    "kuairand_27k": True,
    "kuairand_pure": True,
    "kuaivideo_x1": True,
    "ml-100k": False,
    "synthetic": False,
    "synthetic_days": False,
    "taobao_ad_x1": True,
    "taobao_userbehavior": True,
    "yambda": True,
}


def how_to_make(path: str) -> str:
    """A sentence that follows "there is no file PATH", or "". The set is known by a word of the path as the user or the config wrote it."""
    words = re.split(r"[^a-z0-9_]+", f"{redact(path)} {path}".lower().replace("-", "_"))
    name = next((name for name in RECIPES if name.replace("-", "_") in words), None)
    if name is None or "://" in path:
        return ""
    folder = shlex.quote(os.path.dirname(path) if os.path.splitext(path)[1] else path)
    if RECIPES[name]:
        command, files = (
            f"interformer data {name} --out {folder} --raw FOLDER",
            ", from the files that its owners publish in FOLDER",
        )
        where = "; without --raw it says which files those are and where to get them (docs/guides/data-sets.md)"
    else:
        command, files, where = f"interformer data {name} --out {folder}", "", ""
    return f". `{command}` makes this data set{files}{where}"
