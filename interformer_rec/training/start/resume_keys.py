"""Which key of a config may change when a run is resumed. In: nothing; out: one decision for every key, and the table of the guide.

`*` stands for a name of the user's: of a feature, a table, a label. tests/training/start/test_resume_keys.py fails for a key without a
decision.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Change = Literal["may change", "in any order", "at an epoch's end", "needs a new run"]
MAY: Change = "may change"
ORDER: Change = "in any order"
EPOCH: Change = "at an epoch's end"
NEW_RUN: Change = "needs a new run"


class Row(NamedTuple):
    """Keys that share a decision and its reason."""

    change: Change
    keys: tuple[str, ...]
    why: str


def _below(prefix: str, names: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{name}" for name in names.split())


TABLE = (
    Row(
        MAY,
        ("name", "training.out"),
        "where the files lie; the checkpoints are found there, or at training.checkpoint.path",
    ),
    Row(
        MAY,
        _below(
            "training",
            "epochs max_steps patience eval_every_steps log_every_steps start_seconds hang_seconds stop_seconds device "
            "microbatches",
        ),
        "how long, how often and where; a cosine schedule is stretched to the new end",
    ),
    Row(
        MAY,
        _below("training.checkpoint", "path every_steps keep asynchronous full_every on_error"),
        "when and where state is saved",
    ),
    Row(
        MAY,
        ("training.precision", "training.pairwise_loss_weight", "features.labels.*.weight"),
        "the loss and its arithmetic from here on; weights are fp32 in every precision",
    ),
    Row(
        MAY,
        (
            *_below("optimizer.dense", "lr betas eps weight_decay clip_norm ema"),
            *_below("optimizer.embedding", "lr eps l2"),
        ),
        "how weights move from here on; an average that is new begins at the loaded weights",
    ),
    Row(
        MAY,
        _below("optimizer.schedule", "kind warmup_steps min_factor factor patience"),
        "the shape of the rates from here on",
    ),
    Row(
        MAY,
        _below(
            "data",
            "valid test batch_size eval_batch_size workers prefetch on_bad_row max_bad_rows max_decoded_bytes "
            "id_dropout events.cache",
        ),
        "rows that are left of an epoch are cut into batches anew; best metrics of other validation files are compared with new ones",
    ),
    Row(
        MAY,
        (
            *_below("data.windows", "path marker min_age changed late gap empty"),
            *_below("training", "follow poll_seconds"),
        ),
        "where windows appear, when they are whole and what is done with odd ones; the trained ones are known by their names and sizes",
    ),
    Row(
        MAY,
        ("publish", *_below("publish", "to every full_every keep tables runtime data")),
        "what servers get, and when",
    ),
    Row(
        MAY,
        (*_below("sharding", "planner default tables.* plan deduplicate communication host_cache"),),
        "checkpoints do not depend on the plan, nor on the number of ranks",
    ),
    Row(
        MAY,
        (*_below("model", "preset dropout embedding_std overlap"), "model.sequence.recompute"),
        "neither shape nor meaning of a weight; a preset only fills in other keys, and those are compared",
    ),
    Row(
        EPOCH,
        (
            "seed",
            "data.train",
            "data.shuffle_rows",
            "data.balance",
            "data.events",
            *_below("data.events", "user time stores.* delay"),
        ),
        "inside an epoch they say which rows are unread; other paths to the same row groups are fine. More files at an epoch's end: "
        "vocabularies, means and deviations stay those of the first start, so new ids of a vocab table read its unknown row",
    ),
    Row(
        ORDER,
        (
            *_below("features", "dense ids bags sequences labels"),
            "features.sequences.*.columns",
        ),
        "matched by name; the run keeps the order that it began with, so training.monitor stays with the label that was first",
    ),
    Row(
        NEW_RUN,
        (*_below("features", "dense.* ids.* bags.* sequences.* sequences.*.columns.* labels.* tables.*"),),
        "a new, removed or renamed one: the checkpoint has no weights for it, or weights for nothing",
    ),
    Row(
        NEW_RUN,
        (
            *_below("features.dense.*", "column fill clip log1p standardise"),
            *_below("features.ids.*", "column table null"),
            *_below("features.bags.*", "column table null pooling"),
            *_below("features.sequences.*", "max_length timestamp columns.*.column columns.*.table"),
            "features.labels.*.column",
            *_below("features", "weight group candidate request request.candidates request.column"),
        ),
        "what the inputs and the target of a weight mean",
    ),
    Row(
        NEW_RUN,
        _below(
            "features.tables.*",
            "ids num_embeddings embedding_dim min_count grow grow.rows grow.min_count grow.keep",
        ),
        "which row an id reads, and the shape of a table",
    ),
    Row(
        NEW_RUN,
        (
            *_below(
                "model",
                "kind embedding_dim ensemble_members d layers heads flow split pooling final_cross normalise head activation hidden cin "
                "head_dim cross_layers cross_rank bottom fmb_tokens lcb_tokens fmb_rank fmb_hidden attention auxiliary feedforward "
                "position_dim negatives newest",
            ),
            *_below("model.summary", "x_tokens pma_tokens recent_tokens gating cls"),
            *_below(
                "model.interaction",
                "kind parts merge residual dcn_rank dcn_layers dot_tokens fmb_tokens fmb_rank hidden",
            ),
            *_below(
                "model.sequence",
                "merge lengths pffn pffn_rank pffn_residual attention_residual rope_base window attention_every",
            ),
        ),
        "the model: its weights' shapes, or what is computed with them",
    ),
    Row(
        NEW_RUN,
        ("data.history_pretraining", *_below("data.history_pretraining", "epochs history labels.*")),
        "which epochs are of events and of which: a part of them is done",
    ),
    Row(
        NEW_RUN,
        ("data.windows", *_below("data.windows", "by levels column width fit_on")),
        "what a window is: those that were trained on would not be known again",
    ),
    Row(NEW_RUN, ("optimizer.embedding.kind",), "the state beside every table row is of one kind"),
    Row(
        NEW_RUN,
        ("training.monitor", "training.recalibrate"),
        "the best value, the best checkpoint and patience are of one metric, of scores of one kind",
    ),
)

DECISIONS: dict[str, Change] = {key: row.change for row in TABLE for key in row.keys}


def markdown() -> str:
    """The table as docs/guides/resume.md has it."""
    lines = ["| on `--resume` | keys | why |", "|---|---|---|"]
    for row in TABLE:
        lines.append(f"| {row.change} | {', '.join(f'`{key}`' for key in row.keys)} | {row.why} |")
    return "\n".join(lines) + "\n"
