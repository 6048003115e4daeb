"""The page of search spaces. In: spaces.yaml of the package; out: what each kind of model is searched for, as tables."""

from __future__ import annotations

import json

from interformer_rec import strict_yaml
from interformer_rec.tuning.space import SPACES, Range

HEAD = "| key | range |\n|---|---|"


def page(note: str) -> str:
    """docs/reference/search-spaces.md; `note` says how the page is made."""
    tree = strict_yaml.read(SPACES, "the search spaces")
    fields = {field.alias or name: field.description for name, field in Range.model_fields.items()}
    forms = [f"| `{{{name}: {'[...]' if name == 'choices' else '[low, high]'}}}` | {fields[name]} |" for name in fields]
    kinds = [
        f"| `{kind}` | {', '.join(f'`{key}`: {_range(one)}' for key, one in keys.items()) or 'the shared keys alone'} |"
        for kind, keys in tree["kinds"].items()
    ]
    return "\n".join(
        [
            "# Search spaces of the model kinds\n",
            f"{note}\n`interformer tune` and the quality study search these, unless `--space FILE` says otherwise\n"
            "([guide](../guides/tune.md)). A file has a range for each key; a range is one of\n",
            "| range | values |\n|---|---|",
            *forms,
            "\n## Of every kind\n",
            HEAD,
            *(f"| `{key}` | {_range(one)} |" for key, one in tree["shared"].items()),
            "\n## Beside these\n",
            "| kind | keys and ranges |\n|---|---|",
            *kinds,
            "",
        ]
    )


def _range(given: dict[str, list[object]]) -> str:
    (name, ends), *_ = given.items()
    if name == "choices":
        return "one of " + ", ".join(f"`{json.dumps(one)}`" for one in ends)
    return f"{name}, {ends[0]:g} to {ends[1]:g}"
