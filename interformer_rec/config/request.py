"""Rows that are requests: one user, one history, several candidates. In: `features.request`; out: which columns are lists of them."""

from typing import Any

from pydantic import Field

from interformer_rec.config.strict import Name, Strict

Schema = Any  # FeatureSchema, which reads this module


class Request(Strict):
    """A Parquet row holds a request. The columns of the candidates' features, of the labels and of `features.weight` hold lists.

    The lists of a row are as long as the request has candidates; a bag's holds a list a candidate. Or they are one list of structs,
    `column`, whose fields these columns are. All other columns, histories among them, are the user's or the context's: one value a
    request. An impression is a request with one candidate.
    """

    candidates: tuple[Name, ...] = Field(
        min_length=1,
        description="names of the dense, ids and bags features of the candidates; features.candidate is then the same",
    )
    column: Name | None = Field(
        None,
        description="column that is a list of structs, one a candidate, whose fields are the candidates' columns; null: these are lists "
        "of their own",
    )


def with_candidates(features: object) -> object:
    """`features.candidate` is `request.candidates`, where it is not written."""
    if not isinstance(features, dict) or features.get("candidate"):
        return features
    request = features.get("request")
    named = request.get("candidates") if isinstance(request, dict) else None
    return features if named is None else {**features, "candidate": named}


def candidate_columns(features: Schema) -> frozenset[str]:
    """Source columns that hold lists of candidates."""
    inputs = (*features.dense, *features.ids, *features.bags)
    columns = {feature.column for feature in inputs if feature.name in features.candidate}
    columns |= {label.column for label in features.labels}
    return frozenset(columns | ({features.weight} if features.weight else set()))


def check_request(features: Schema) -> None:
    """Raises ValueError unless each column holds either lists of candidates or one value a request."""
    if features.request is None:
        return
    if set(features.candidate) != set(features.request.candidates):
        raise ValueError("features.candidate differs from features.request.candidates: leave features.candidate out")
    inputs = (*features.dense, *features.ids, *features.bags)
    once = {feature.column for feature in inputs if feature.name not in features.candidate} | {features.group}
    for group in features.sequences:
        once |= {group.timestamp, *(column.column for column in group.columns)}
    both = sorted(features.candidate_columns & once)
    if both:
        raise ValueError(
            f"column {both[0]!r} is read as lists of candidates (features.request) and as one value a request: name all features that "
            "read it under request.candidates, or write it as two columns"
        )


def sides(features: Schema) -> tuple[Schema, Schema]:
    """The features of a request and those of its candidates; the group is the request's, labels and weight are the candidates'."""
    names = set(features.candidate)
    parts = {kind: getattr(features, kind) for kind in ("dense", "ids", "bags")}
    once = {kind: tuple(one for one in part if one.name not in names) for kind, part in parts.items()}
    shown = {kind: tuple(one for one in part if one.name in names) for kind, part in parts.items()}
    fixed: dict[str, Any] = {"tables": features.tables, "candidate": (), "request": None}
    make: Any = type(features).model_construct  # parts of what was checked
    user = make(**fixed, **once, sequences=features.sequences, labels=(), weight=None, group=features.group)
    candidate = make(**fixed, **shown, sequences=(), labels=features.labels, weight=features.weight, group=None)
    return user, candidate


def counted_column(features: Schema) -> str:
    """The column whose lists say how many candidates a request has: read with labels and without."""
    assert features.request is not None
    first = features.request.candidates[0]
    return next(one.column for one in (*features.dense, *features.ids, *features.bags) if one.name == first)


def check_microbatches(count: int, pairwise_weight: float, request: object | None) -> None:
    """Raises ValueError for what microbatches cannot be cut from."""
    if count > 1 and pairwise_weight:
        raise ValueError(
            f"training.microbatches {count} and training.pairwise_loss_weight {pairwise_weight:g}: pairs of rows in different microbatches "
            "would be left out. Use one of the two"
        )
    if count > 1 and request is not None:
        raise ValueError(
            f"training.microbatches {count} and features.request: microbatches are cut from impressions. Use a smaller "
            "data.batch_size, or impressions"
        )


def check_monitor(monitor: str, features: Schema) -> None:
    """Raises ValueError for a metric that such rows do not have."""
    if monitor == "gauc" and features.group is None:
        raise ValueError("training.monitor is gauc, which needs features.group (the column of the user's id)")
    if monitor == "gauc_request" and features.request is None:
        raise ValueError(
            "training.monitor is gauc_request, which needs rows that are requests (features.request); gauc is by features.group"
        )


def check_pairs(pairwise_weight: float, group: str | None, balance: str) -> None:
    """Raises ValueError where batches have no pairs to compare."""
    if pairwise_weight and (group is None or balance != "groups"):
        raise ValueError(
            "training.pairwise_loss_weight compares rows of one group within a batch: name features.group (the column of the user's "
            "id) and set data.balance: groups"
        )
