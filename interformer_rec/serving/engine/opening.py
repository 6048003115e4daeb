"""A version becomes one that may answer: opened, checked, and asked its golden requests. In: an exported model's folder; out: Served."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from interformer_rec.errors import DamagedError
from interformer_rec.serving import artefact
from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.encode.refusal import Refusal
from interformer_rec.serving.engine.versions import Served
from interformer_rec.serving.published import pointer
from interformer_rec.serving.published.delta import OpenDelta, chain
from interformer_rec.serving.published.pointer import Current
from interformer_rec.serving.published.state import fitted_after, scorer_after
from interformer_rec.serving.scorer import Scorer, probabilities
from interformer_rec.serving.signature import Signature
from interformer_rec.storage import Storage

CLOSE = 1e-5  # of a golden probability: another processor adds in another order
SHOWN = 5  # candidates of the example request


def opened(path: str) -> tuple[Callable[[], Current], Callable[[Current, Served | None], Served]]:
    """What Versions needs: the state that current.json names, and how one is opened."""
    return lambda: pointer.current(path), lambda now, present: state(path, now, present)


def state(path: str, now: Current, present: Served | None = None) -> Served:
    """The version with its deltas; those that `present` has already, and a version that it has, are not read again.

    Raises InputError where a file is damaged or missing, or a golden request is not scored as it was when the state was made.
    """
    if present is None or (present.version, present.opened.sha256) != (now.version, now.sha256):
        present = load(path, now.version)
    base = present.base or present
    if now.delta is None:
        return base
    deltas = chain(Storage.open(path), now, base.opened.contents, present.delta)
    if not deltas:
        return present
    if present.delta is not None and deltas[0].said.before.delta != present.delta.id:
        present = base
    return _after(present, base, now, deltas)


def _after(present: Served, base: Served, now: Current, deltas: Sequence[OpenDelta]) -> Served:
    version = base.opened
    fitted = fitted_after(present.fitted, version, deltas)
    scorer = scorer_after(present.scorer, version, deltas, version.preferred)
    same = fitted is present.fitted
    encoder = present.encoder if same else Encoder(version.config.features, fitted, version.signature)
    golden = deltas[-1].golden()
    began = time.thread_time()
    check(encoder, scorer, golden, now.state)
    return replace(
        present,
        scorer=scorer,
        encoder=encoder,
        fitted=fitted,
        delta=now.delta,
        base=base,
        example=example(version.signature, [one["row"] for one in golden]),
        golden_seconds=time.thread_time() - began,
        loaded=time.time(),
    )


def load(path: str, version: str) -> Served:
    """A version without its deltas. Raises InputError as `state`."""
    found = artefact.open(path, version)
    scorer = found.scorer()
    encoder = Encoder(found.config.features, found.fitted, found.signature)
    golden = found.golden()
    check(encoder, scorer, golden, version)
    began = time.thread_time()  # another process on the machine, or this one's requests, make no version a slow one
    check(encoder, scorer, golden, version)  # the first time mapped pages and started threads
    features = found.config.features
    return Served(
        version=version,
        name=found.config.name,
        scorer=scorer,
        encoder=encoder,
        fitted=found.fitted,
        opened=found,
        signature=found.signature,
        types=found.signature.types,
        histories=tuple(
            tuple(
                dict.fromkeys(
                    [*(column.column for column in group.columns), *([group.timestamp] if group.timestamp else [])]
                )
            )
            for group in features.sequences
        ),
        example=example(found.signature, [one["row"] for one in golden]),
        card=found.card(),
        golden_seconds=time.thread_time() - began,
    )


def check(encoder: Encoder, scorer: Scorer, golden: Sequence[Mapping[str, Any]], version: str) -> None:
    """Raises DamagedError unless the golden requests have the scores that they had at the export."""
    if not golden:
        raise DamagedError(f"version {version} has no golden requests: export it again")
    try:
        scores = probabilities(scorer(encoder.score([one["row"] for one in golden])))
        wanted = np.array([[one["scores"][task] for task in scorer.tasks] for one in golden])
    except (Refusal, KeyError, TypeError, IndexError) as error:
        raise DamagedError(f"version {version} cannot answer its golden requests: {error}. Export it again") from None
    apart = np.abs(scores - wanted)
    if not np.all(apart <= CLOSE):
        row, task = np.unravel_index(np.argmax(np.where(np.isnan(apart), np.inf, apart)), apart.shape)
        raise DamagedError(
            f"version {version} scores golden request {row} as {scores[row, task]:.6f} for {scorer.tasks[task]}, and was exported with "
            f"{wanted[row, task]:.6f}: the files do not belong together, or this machine computes otherwise. Export it again"
        )


def example(signature: Signature, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A request of golden rows: the first one's user, and the candidates of the first few."""
    mine = {one.name for one in signature.inputs if one.part == "user"}
    user = {name: value for name, value in rows[0].items() if name in mine}
    return {"user": user, "candidates": [{k: v for k, v in row.items() if k not in mine} for row in rows[:SHOWN]]}
