"""Which key of a config may change when a run is resumed. In: nothing; out: one decision for every key, with its reason.

`*` stands for a name of the user's: of a feature, a table, a label. docs/reference/resume-keys.md lists the decisions,
docs/guides/resume.md the rules. tests/training/start/test_resume_keys.py fails for a key without a decision, and where the guide says
another one.
"""

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
        "where the files are; the checkpoints are found there, or at training.checkpoint.path",
    ),
    Row(
        MAY,
        _below(
            "training",
            "epochs max_steps patience eval_every_steps log_every_steps start_seconds hang_seconds stop_seconds device "
            "microbatches",
        ),
        "how long, how often and where the run trains; a cosine schedule is stretched to the new end",
    ),
    Row(
        MAY,
        _below("training.checkpoint", "path every_steps keep asynchronous full_every on_error"),
        "when and where state is saved",
    ),
    Row(
        MAY,
        ("training.precision", "training.pairwise_loss_weight", "features.labels.*.weight"),
        "the loss and its precision from here on; weights are fp32 in every precision",
    ),
    Row(
        MAY,
        (
            *_below("optimizer.dense", "lr betas eps weight_decay clip_norm ema"),
            *_below("optimizer.embedding", "lr eps l2"),
        ),
        "how weights are updated from here on; a moving average that is switched on now begins at the loaded weights",
    ),
    Row(
        MAY,
        _below("optimizer.schedule", "kind warmup_steps min_factor factor patience"),
        "the learning rates from here on",
    ),
    Row(
        MAY,
        _below(
            "data",
            "valid test batch_size eval_batch_size workers prefetch on_bad_row max_bad_rows max_decoded_bytes "
            "id_dropout events.cache",
        ),
        "how rows are read from here on; the unread rows of the epoch are divided into batches again",
    ),
    Row(
        MAY,
        (
            *_below("data.windows", "path marker min_age changed late gap empty"),
            *_below("training", "follow poll_seconds"),
        ),
        "where windows appear, when they are complete and what is done with odd ones; trained windows are known by their names and sizes",
    ),
    Row(
        MAY,
        ("publish", *_below("publish", "to every full_every keep tables runtime data")),
        "what is published for servers, and when",
    ),
    Row(
        MAY,
        (*_below("sharding", "planner default tables.* plan deduplicate communication host_cache"),),
        "checkpoints do not depend on the plan, nor on the number of ranks",
    ),
    Row(
        MAY,
        (*_below("model", "preset dropout embedding_std overlap"), "model.sequence.recompute"),
        "changes neither shape nor meaning of a weight; a preset only fills in other keys, and those are compared",
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
        "inside an epoch it decides which rows are unread; the guide says what more files mean",
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
        "a new, removed or renamed entry: the checkpoint has no weights for it, or weights that nothing reads",
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
        "changes what the weights were trained to read or to predict",
    ),
    Row(
        NEW_RUN,
        _below(
            "features.tables.*",
            "ids num_embeddings embedding_dim min_count grow grow.rows grow.min_count grow.keep",
        ),
        "decides which row an id reads, or the shape of a table",
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
        "changes the shapes of the weights, or what is computed with them",
    ),
    Row(
        NEW_RUN,
        ("data.history_pretraining", *_below("data.history_pretraining", "epochs history labels.*")),
        "decides which epochs are history pre-training and on which events; some of them may be done",
    ),
    Row(
        NEW_RUN,
        ("data.windows", *_below("data.windows", "by levels column width fit_on")),
        "decides what a window is; trained windows would not be recognised",
    ),
    Row(NEW_RUN, ("optimizer.embedding.kind",), "the optimizer state of every table row is of one kind"),
    Row(
        NEW_RUN,
        ("training.monitor", "training.recalibrate"),
        "the best value, the best checkpoint and patience depend on this metric",
    ),
)

DECISIONS: dict[str, Change] = {key: row.change for row in TABLE for key in row.keys}
