"""What explain.json holds, in words. In: nothing; out: keys and meanings, and their page, for make.py."""

from __future__ import annotations

from collections.abc import Callable

# How the page calls sections that hold importances, and what is special about each.
SECTIONS = {
    "features[]": "of a feature, permuted across rows",
    "groups[]": "of features and histories that are permuted together",
    "histories[]": "of a history as a whole, its length with it",
    "fields[]": "of a history's column, permuted over its events",
}
IMPORTANCE = {
    "mean": "how much worse the metric gets (AUC and GAUC fall, NE rises), mean of the permutations; null where not defined",
    "interval": "[low, high] of the bootstrap",
    "std": "of the permutations; null of one",
}
SAVES = {
    "table_bytes": "weights of tables, all ranks, that the run has less without it",
    "peak_bytes": "of the fullest rank's peak",
    "step_ms": "of a training step",
    "why": "instead of these: the model cannot be without it, or no plan fits",
}
SLICE = {
    "value": "what the slice is called: a value, the lowest and highest number, a length, `null`",
    "rows": "how many",
    "unknown_ids": "share of the ids of vocabularies, in features and histories, that training has not seen; null where there is no id",
    "unknown_ids_by_input.INPUT": "the same by feature or column of a history",
    "labels.LABEL.positives": "sum of the label, without weights",
    "labels.LABEL.auc": "as `interformer evaluate` says it",
    "labels.LABEL.gauc": "with `features.group`",
    "labels.LABEL.logloss": "mean binary cross-entropy",
    "labels.LABEL.ne": "normalised entropy",
    "labels.LABEL.calibration": "predicted over observed positives",
    "labels.LABEL.base_rate": "mean of the label",
}
HEAD = {
    "format": "1",
    "run": "name of the run",
    "model": "`model.kind`",
    "checkpoint": "which one was explained",
    "data": "the files",
    "rows": "that were kept and scored",
    "rows_read": "of the files, bad ones left out",
    "users": "of the kept rows; null without `features.group`",
    "bad_rows.REASON": "rows that were skipped",
    "labels": "of the run, in its order; the screen and the order of the lists go by the first",
    "metrics": "that have importances",
    "repeats": "permutations of each input",
    "resamples": "of the bootstrap",
    "level": "of the intervals",
    "seed": "of rows, permutations and resamples",
    "seconds": "from start to end",
    "base.LABEL.METRIC.value": "of the kept rows as they are",
    "base.LABEL.METRIC.interval": "[low, high] of the bootstrap",
}
NAMES = {
    "features[].name": "of the feature",
    "features[].input": "`dense`, `id` or `bag`",
    "features[].table": "that it reads; null of a dense feature",
    "groups[].name": "of the group",
    "groups[].features": "names of its features and histories",
    "histories[].name": "of the history",
    "fields[].name": "HISTORY.COLUMN",
    "fields[].history": "its history",
    "fields[].field": "its column",
    "fields[].table": "that it reads",
    "ages[].history": "a history, once for each range of ages, newest first",
    "ages[].ages": "[first, last] age of the events; 1 is the newest",
    "ages[].events": "how many there are",
}
PLAN = {
    "savings.cluster": "what the run was planned for; `this job`: the ranks that explained it",
    "savings.nodes": "of the cluster",
    "savings.ranks": "of all nodes",
    "savings.batch_size": "rows a rank and step, the run's",
    "savings.table_bytes": "weights of the run's tables, all ranks",
    "savings.peak_bytes": "of the fullest rank",
    "savings.step_ms": "of a training step",
    "savings.why": "instead of these: the run itself has no plan there",
}
# Mappings whose keys are names: how the page writes such a name.
NAMED = {"base": "LABEL", "base.LABEL": "METRIC", "bad_rows": "REASON", "slices": "COLUMN"}
NAMED |= {f"{one}.importance": "LABEL" for one in SECTIONS} | {f"{one}.importance.LABEL": "METRIC" for one in SECTIONS}
NAMED |= {f"ages[].{how}": "LABEL" for how in ("permuted", "removed")}
NAMED |= {f"ages[].{how}.LABEL": "METRIC" for how in ("permuted", "removed")}
NAMED |= {f"{one}.labels": "LABEL" for one in ("whole", "slices.COLUMN[]")}
NAMED |= {f"{one}.unknown_ids_by_input": "INPUT" for one in ("whole", "slices.COLUMN[]")}


def explain_keys() -> dict[str, str]:
    """Every key of explain.json -> its meaning."""
    found = {**HEAD, **NAMES}
    for section, about in SECTIONS.items():
        found |= {f"{section}.importance.LABEL.METRIC.{key}": f"{about}: {text}" for key, text in IMPORTANCE.items()}
        found |= {f"{section}.saves.{key}": text for key, text in SAVES.items()}
    for how, about in (("permuted", "across rows, age by age"), ("removed", "taken out, older ones move up")):
        found |= {f"ages[].{how}.LABEL.METRIC.{key}": f"{about}: {text}" for key, text in IMPORTANCE.items()}
    for one, about in (("slices.COLUMN[]", "of a slice: "), ("whole", "of all rows: ")):
        found |= {f"{one}.{key}": about + text for key, text in SLICE.items()}
    return {**found, **PLAN}


def page(prose: Callable[..., str]) -> str:
    """docs/reference/explain.md; `prose`: make.py's."""
    about = prose(
        "`interformer explain` writes explain.json, and `--json` prints it ([guide](../guides/explain.md)). Lists of importances begin",
        "with the input that costs the first label most AUC. Names in capitals stand for those of a label, a metric, an input, a column.",
    )
    rows = [f"| `{key}` | {meaning} |" for key, meaning in explain_keys().items()]
    return "\n".join(["# Keys of an explanation\n", about, "| key | meaning |\n|---|---|", *rows]) + "\n"
