"""The optimizers' options: how dense weights and table rows move. In: the `optimizer:` part of a run's YAML. No torch."""

from typing import Annotated, Literal

from pydantic import Field

from interformer_rec.config.strict import CountOrNone, Strict

Beta = Annotated[float, Field(ge=0, lt=1)]


class DenseOptimizer(Strict):
    """Adam (AdamW when weight_decay > 0) on the dense parameters. Tables have no moving average: they stay as they are trained."""

    lr: float = Field(1e-3, gt=0, description="learning rate of the dense weights")
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="decay of Adam's first and second moment")
    eps: float = Field(1e-8, gt=0, description="added to the denominator of a step")
    weight_decay: float = Field(0.0, ge=0, le=1e6, description="decoupled, on matrices only")
    clip_norm: float | None = Field(None, gt=0, description="clip the gradient's global norm")
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="decay of the moving average of the dense weights that evaluation and prediction read; training "
        "goes on from the raw weights",
    )


class EmbeddingOptimizer(Strict):
    """Fused into the backward kernels of the tables. Adam needs CUDA."""

    kind: Literal["rowwise_adagrad", "adagrad", "sgd", "adam"] = Field(
        "rowwise_adagrad", description="optimizer of the tables: one accumulator a row, one a float, none, Adam's two"
    )
    lr: float = Field(0.02, gt=0, description="learning rate of the tables")
    eps: float = Field(1e-8, gt=0, description="added to the denominator of a step")
    l2: float = Field(
        0.0, ge=0, description="l2 / 2 * |e|^2 in the loss for every row a sample looks up (touched rows only)"
    )


class Schedule(Strict):
    """Learning-rate factor over the steps, for both optimizers: linear warm-up, then the named shape."""

    kind: Literal["constant", "cosine", "plateau"] = Field(
        "constant", description="after the warm-up: as it is, down along a cosine, or lower when the monitor stalls"
    )
    warmup_steps: CountOrNone = Field(0, description="steps in which the rate grows from 0")
    min_factor: float = Field(0.0, ge=0, le=1, description="cosine: reached at the last step; plateau: never below")
    factor: float = Field(0.1, gt=0, lt=1, description="plateau: multiplied in when the monitored metric stalls")
    patience: CountOrNone = Field(0, description="plateau: evaluations without progress that are tolerated")


class OptimizerConfig(Strict):
    """How weights move."""

    dense: DenseOptimizer = DenseOptimizer()
    embedding: EmbeddingOptimizer = EmbeddingOptimizer()
    schedule: Schedule = Schedule()
