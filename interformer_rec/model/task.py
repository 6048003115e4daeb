"""CTRTask: a Batch comes in, the training loss and the logits go out. The one module the trainer trains."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interformer_rec.batch import Batch
from interformer_rec.config.baselines import AnyModelConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.model import ModelConfig
from interformer_rec.model.baselines.auxiliary import Supervised
from interformer_rec.model.build import build_model
from interformer_rec.model.embedding.embedded import Embedded
from interformer_rec.model.embedding.lookup import Embeddings
from interformer_rec.model.embedding.microbatches import Microbatches
from interformer_rec.model.embedding.requests import Expand
from interformer_rec.model.pairwise import pairwise_loss


class WeightedBCE(nn.Module):
    """sum_t label_weight_t * sum_i weight_i * BCE(logit_it, label_it) / loss_rows; 0 for prediction batches (no labels).

    A model's auxiliary loss (Supervised) joins the objective, sum_i weight_i * auxiliary_i / loss_rows, and so does `pairwise_weight`
    times the pairwise loss of each label, but not the number that is reported: the loss of two models compares their predictions.
    """

    def __init__(self, label_weights: list[float], pairwise_weight: float = 0.0) -> None:
        super().__init__()
        self.pairwise_weight = pairwise_weight
        self.register_buffer("label_weights", torch.tensor(label_weights), persistent=False)

    def forward(
        self, output: Tensor | Supervised, labels_BT: Tensor, weights_B: Tensor, loss_rows: float, groups_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """-> scalar loss, in float32 or wider; logits (B, tasks) in float32, detached."""
        logits_BT, auxiliary_B = output if isinstance(output, Supervised) else (output, None)
        shown = logits_BT.detach().float()
        if labels_BT.shape[1] == 0:
            return logits_BT.new_zeros(()), shown
        logits = logits_BT if logits_BT.dtype == torch.float64 else logits_BT.float()
        losses = F.binary_cross_entropy_with_logits(logits, labels_BT.to(logits.dtype), reduction="none")
        loss = (losses * self.label_weights * weights_B[:, None]).sum() / loss_rows
        if auxiliary_B is not None:
            loss = _gradient_only(loss, (auxiliary_B.to(logits.dtype) * weights_B).sum() / loss_rows)
        if self.pairwise_weight and torch.is_grad_enabled():
            ordered = (pairwise_loss(logits, labels_BT, weights_B, groups_B) * self.label_weights).sum()
            loss = _gradient_only(loss, self.pairwise_weight * ordered / loss_rows)
        return loss, shown


def _gradient_only(loss: Tensor, part: Tensor) -> Tensor:
    """`loss` in value; the gradient of both."""
    return loss + (part - part.detach())


class CTRTask(nn.Module):
    """A model with its tables and its loss. forward(batch) -> (loss, logits (B, tasks) float32, detached)."""

    def __init__(self, embeddings: Embeddings, model: nn.Module, loss: WeightedBCE) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.model = model
        self.loss = loss

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """No branch here: TorchRec's sparse pipeline traces this method down to the lookups; model and loss are leaves."""
        return self.dense_part(batch, self.embeddings(batch))

    def dense_part(self, batch: Batch, embedded: Embedded) -> tuple[Tensor, Tensor]:
        """What forward does with the batch's vectors, looked up before."""
        output = self.model(batch.dense, embedded)
        return self.loss(output, batch.labels, batch.weights, batch.loss_rows, batch.groups)


class MicrobatchTask(CTRTask):
    """CTRTask whose dense part trains on `count` parts of a batch, one after the other; tables are read and updated once."""

    def __init__(self, embeddings: Embeddings, model: nn.Module, loss: WeightedBCE, count: int) -> None:
        super().__init__(embeddings, model, loss)
        self.microbatches = Microbatches(model, loss, count)

    def dense_part(self, batch: Batch, embedded: Embedded) -> tuple[Tensor, Tensor]:
        """As CTRTask's."""
        return self.microbatches(batch.dense, embedded, batch.labels, batch.weights, batch.loss_rows, batch.groups)


class RequestTask(CTRTask):
    """CTRTask where rows are candidates of requests. The user's side of a split model runs once a request; others get a row a candidate."""

    def __init__(self, embeddings: Embeddings, model: nn.Module, loss: WeightedBCE, expand: Expand | None) -> None:
        super().__init__(embeddings, model, loss)
        self.expand = expand

    def dense_part(self, batch: Batch, embedded: Embedded) -> tuple[Tensor, Tensor]:
        """As CTRTask's."""
        output = of_requests(self.model, self.expand, batch.dense, embedded, batch.request_of, batch.requests)
        return self.loss(output, batch.labels, batch.weights, batch.loss_rows, batch.groups)


def of_requests(
    model: nn.Module,
    expand: Expand | None,
    dense: Tensor,
    embedded: Embedded,
    request_of: Tensor | None,
    requests: int,
) -> Tensor:
    """The model's output for candidates of requests; `expand` is expand_of its config."""
    if expand is None:
        return model(dense, embedded, request_of, requests)
    rows = expand(dense, embedded, request_of)
    return model(rows[0], rows[1])


def build_task(
    features: FeatureSchema,
    model: AnyModelConfig,
    table_rows: Mapping[str, int],
    *,
    l2: float = 0.0,
    pairwise_weight: float = 0.0,
    microbatches: int = 1,
    device: torch.device | None = None,
) -> CTRTask:
    """The task, untrained: tables on `device` (meta: nothing is allocated), the dense part on the CPU.

    The dense part draws from torch's global generator, and before the tables: its start depends on the seed alone, not on
    where the tables are made. Raises InputError for features the model cannot work with.
    """
    dense = build_model(features, model)
    on = device or torch.device("meta")
    embeddings = Embeddings(features, table_rows, model.embedding_dim, l2, on, model.ensemble_members)
    loss = WeightedBCE([label.weight for label in features.labels], pairwise_weight)
    if microbatches > 1:
        return MicrobatchTask(embeddings, dense, loss, microbatches)
    if features.request is None:
        return CTRTask(embeddings, dense, loss)
    return RequestTask(embeddings, dense, loss, expand_of(features, model))


def expand_of(features: FeatureSchema, model: AnyModelConfig) -> Expand | None:
    """What makes a row of each candidate of a request; None for a model that takes requests as they are."""
    split = isinstance(model, ModelConfig) and model.split
    return None if split else Expand(features, model.embedding_dim, model.ensemble_members)
