"""What a run folder and its log hold, in words. In: nothing; out: names and meanings, for make.py and its tests."""

from __future__ import annotations

FILES = {
    "config.yaml": "the config with every default; `interformer train` of it repeats the run",
    "features/": "`fitted.json` and vocabularies: what was computed from the training files",
    "checkpoints/step-N/": "the state at step N; `training.checkpoint.path` puts them elsewhere",
    "metrics.jsonl": "the log, one JSON object a line (below)",
    "tensorboard/": "the same numbers for TensorBoard (below)",
    "plan.json": "which table lies on which rank, and how; a plan file, for `interformer plan diff` and `sharding.plan`",
    "environment.json": "machine, versions, ranks and threads of the last start",
    "warm_start.json": "with `--from`: the checkpoint that the run began with, and what of it was kept, new and dropped",
    "data.json": "paths, rows and bad rows of each data set; rows of tables; lengths of histories; `plan --statistics` reads it",
    "measured.json": "memory and time of each stage, by rank; `plan score` reads it",
    "evaluation.json": "metrics and calibration bins of the validation and test set, best checkpoint",
    "report.html": "all of it as a page",
    "explain/": "what `interformer explain` has found: explain.html, [explain.json](explain.md)",
    "complete.json": '`{"step": N}`, written last: training ended there',
    "lock.json": "while a job trains in the folder: host, process, since when ([faults](../guides/faults.md#one-job-at-a-time))",
    "non_finite_step_N_rank_R.safetensors": "the batch at which the loss was not finite",
}
RECORDS = {
    "split": "`train`, `valid`, `test`, `window`, `growth`, `checkpoint` or `publish`: what the record is of",
    "epoch": "counted from 0",
    "step": "of the run; of a log interval its last",
}
METRICS = {
    "loss": "what training minimises: mean over steps and ranks",
    "rows": "rows of all ranks",
    "rows_without_group": "with `features.group`: rows whose group is null; they are left out of GAUC",
    "ne": "normalised entropy: logloss over that of the base rate; below 1 is better than the mean; mean of labels",
    "calibration": "sum of predictions over sum of labels; mean of labels",
    "seconds": "of the log interval or the evaluation; saving is left out",
    "events": "in epochs of history pre-training: events that were trained on; other rows of the batches weigh 0",
    "samples_per_second": "`rows` / `seconds`, in epochs of history pre-training `events` / `seconds`",
    "data_wait_share": "share of the time in which the ranks waited for the loader",
    "lr_dense": "learning rate of the dense weights at this step",
    "lr_embedding": "learning rate of the tables at this step",
    "LABEL/auc": "area under the ROC curve, exact over all rows",
    "LABEL/gauc": "with `features.group`: mean AUC of the groups, weighted by their rows",
    "LABEL/gauc_request": "with `features.request`: mean AUC of the requests, weighted by their rows",
    "LABEL/logloss": "mean binary cross-entropy",
    "LABEL/ne": "normalised entropy of this label",
    "LABEL/calibration": "calibration of this label",
    "LABEL/base_rate": "mean of the label",
    "window": "its name; the weights had not seen it",
    "COLUMN/unknown": "share of the ids of a column that the table's vocabulary does not hold",
    "all/LABEL/METRIC": "over all windows up to this one, but for the first `data.windows.fit_on`: logloss, NE and calibration over their "
    "rows; AUC and GAUC as means of the windows, weighted by rows",
}
CHECKPOINT = {
    "bytes": "written, by all ranks",
    "stall_seconds": "that training waited",
    "write_seconds": "until the files were there",
    "host_bytes": "host memory that the copy took, a rank",
    "incremental": "holds the rows that changed since the last full checkpoint",
    "asynchronous": "was written while training went on",
}
GROWTH = {
    "TABLE/admitted": "ids that got a row of a table with `grow`, before the window was trained on",
    "TABLE/freed": "rows that were taken from their ids and reset",
    "TABLE/freed_for_room": "of these, rows whose ids `grow.keep` would have let stay",
    "TABLE/without_room": "ids that were seen often enough and found no room",
    "TABLE/used_rows": "rows that have an id now",
    "TABLE/waiting": "ids without a row that are counted further",
    "count_seconds": "of counting the window's ids; of `seconds`, which also has the choice, the reset of rows and the files",
}
PUBLISH = {
    "seconds": "that a publication took, beside training",
    "failed": "1: nothing was published; the log says why",
    "deltas": "since the version, after it; 0: a version was published",
    "changed_rows": "of all tables, in a delta",
}
TRAIN_ONLY = (
    "loss",
    "ne",
    "calibration",
    "data_wait_share",
    "events",
    "samples_per_second",
    "lr_dense",
    "lr_embedding",
)
WINDOWS_ONLY = ("window", "COLUMN/unknown", "all/LABEL/METRIC")
BOTH = ("rows", "seconds", "LABEL/ne", "LABEL/calibration")


def split_of(metric: str) -> str:
    """The records that have a metric."""
    if metric in BOTH:
        return "train, valid, test, window"
    if metric in WINDOWS_ONLY:
        return "window"
    return "train" if metric in TRAIN_ONLY else "valid, test, window"
