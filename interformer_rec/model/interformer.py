"""InterFormer (Zeng et al., CIKM 2025, Algorithm 1): tokens of fields and sequences inform each other, layer by layer.

In: dense columns and an Embedded; out: logits. Legend: B samples (R requests, C candidates), m dense columns, n non-sequence
tokens, c tokens of X_sum, d channels.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.model import Flow, ModelConfig
from interformer_rec.errors import InputError
from interformer_rec.model.candidate_side import CandidateSide, SharedShapes, SharedStates, UserStates
from interformer_rec.model.cross_arch import CrossArch
from interformer_rec.model.early import EarlyPooling, pool_all
from interformer_rec.model.embedding.embedded import Embedded, table_dims
from interformer_rec.model.embedding.requests import of_requests
from interformer_rec.model.interaction_arch import InteractionArch
from interformer_rec.model.layers import MLP
from interformer_rec.model.preprocess import EventTokens, Preprocess
from interformer_rec.model.sequence import Sequence
from interformer_rec.model.sequence_arch import SequenceArch
from interformer_rec.model.sides import both_sides
from interformer_rec.ops.attention import rotary_of
from interformer_rec.ops.padding.candidate_blocks import CandidateBlocks
from interformer_rec.ops.streams import side_by_side

# candidates a request from which what they share of their products is worked out once, if it pays at all (pays_from)
SHARED_FROM = 2


class Layer(nn.Module):
    """Interaction Arch and Sequence Arch of one layer: they read only the layer's inputs, so neither waits for the other.

    Both add their update to their input inside, because an option drops the residual (the paper has none).
    """

    def __init__(self, n: int, s_tokens: int, sequences: int, model: ModelConfig, number: int) -> None:
        """`number`: of the layer, from 0; every sequence.attention_every-th has attention, the first one too."""
        super().__init__()
        attends = number % model.sequence.attention_every == 0
        self.interaction_arch = InteractionArch(
            n, s_tokens, model.d, model.interaction, model.activation, model.dropout
        )
        self.sequence_archs = nn.ModuleList(SequenceArch(model, attends) for _ in range(sequences))
        self.overlap, self.recompute = model.overlap, model.sequence.recompute

    def forward(
        self,
        x_BND: Tensor,
        x_n_BND: Tensor,
        read_by_x_BSD: Tensor,
        s: list[Sequence],
        s_n: list[Sequence],
        read_by_s_BCD: Tensor,
    ) -> tuple[Tensor, list[Sequence]]:
        """X and the sequences after this layer. X reads `read_by_x_BSD`, the sequences `read_by_s_BCD`."""

        def interact() -> Tensor:
            return self.interaction_arch(x_BND, x_n_BND, read_by_x_BSD)

        def attend() -> list[Sequence]:
            parts = zip(self.sequence_archs, s, s_n, strict=True)
            return [self._updated(arch, read_by_s_BCD, one, one_n) for arch, one, one_n in parts]

        if not self.overlap:
            return interact(), attend()
        return side_by_side(interact, attend, x_BND.device, lambda found: [one.values for one in found])

    def _updated(self, arch: nn.Module, read_BCD: Tensor, s: Sequence, s_n: Sequence) -> Sequence:
        """A sequence after its Sequence Arch, of which autograd keeps the input alone where it is computed again."""
        if not (self.recompute and torch.is_grad_enabled()):
            return arch(read_BCD, s, s_n)

        def run(read: Tensor, values: Tensor, normed: Tensor) -> Tensor:
            return arch(read, s._replace(values=values), s_n._replace(values=normed)).values

        return s._replace(values=checkpoint(run, read_BCD, s.values, s_n.values, use_reentrant=False))


class InterFormer(nn.Module):
    """Logits (B, tasks). With several sequences (merge: separate) each has its own Sequence Arch and summaries.

    `final_cross`: L layers, then a last Cross Arch feeds the heads. Otherwise Algorithm 1 to the letter, whose heads read layer
    L's summaries: nothing would read layer L's update, so it is not built. Each task has a head of its own on [X_sum ; S_sum].
    `split`: what is said here of X holds for the user's tokens; the candidate's are in CandidateSide, and X_sum is of both.
    `features` have passed ModelConfig.check_features, as those of every run config have.
    """

    def __init__(self, features: FeatureSchema, model: ModelConfig) -> None:
        super().__init__()
        self.side, candidates = both_sides(features, model.embedding_dim, model.split)
        event_width = table_dims(features, model.embedding_dim)[features.sequences[0].columns[0].table]
        options = model.sequence
        self.preprocess = Preprocess(
            self.side.numbers,
            self.side.counts,
            features.sequences,
            event_width,
            model.d,
            options.merge,
            options.lengths,
        )
        n, parts = self.preprocess.tokens, self.preprocess.groups
        self.flow = Flow.of(model.flow)
        self.early: nn.ModuleList | None = None
        if self.flow.pooled_first:
            pooled = (EarlyPooling(model.d, model.heads, model.pooling, model.activation) for _ in parts)
            self.early = nn.ModuleList(pooled)
            n, parts = n + len(parts), []
        if n < 2 and not self.flow.x_reads_s:
            whose = "user's " if model.split else ""
            raise InputError(
                f"model.flow {model.flow} leaves the {whose}Interaction Arch one token, and one token has nothing to interact with: "
                f"add {whose}features, or use flow: int"
            )
        # (c, d) what the sequences read in place of X_sum. The name stays: stored checkpoints have it
        learned = not (self.flow.s_reads_x or self.flow.pooled_first)
        self.untold = nn.Parameter(torch.randn(model.summary.x_tokens, model.d)) if learned else None
        updates = model.layers if model.final_cross else model.layers - 1
        self.cross_archs = nn.ModuleList(CrossArch(n, parts, model) for _ in range(updates + 1))
        s_tokens = self.cross_archs[0].s_tokens
        read_by_x = s_tokens * self.flow.x_reads_s
        self.layers = nn.ModuleList(Layer(n, read_by_x, len(parts), model, number) for number in range(updates))
        self.candidate: CandidateSide | None = None
        if model.split:
            self.candidate = CandidateSide(candidates, n + read_by_x, updates, model)
        width = (model.summary.x_tokens * (2 if model.split else 1) + s_tokens) * model.d
        self.heads = nn.ModuleList(MLP(width, model.head, 1, model.activation, model.dropout) for _ in features.labels)
        self.head_dim, self.attention_heads = model.d // model.heads, model.heads
        self.rope_base = model.sequence.rope_base
        lengths = [group.max_length for group in features.sequences]
        self.longest = sum(lengths) if self.preprocess.merge == "union" else max(lengths)

    def forward(
        self, dense_BM: Tensor, embedded: Embedded, request_of: Tensor | None = None, requests: int = 0
    ) -> Tensor:
        """(B, m) dense columns and what the tables say -> (B, tasks) logits. `request_of`, `requests`: see Batch; with `split` alone."""
        if requests == dense_BM.shape[0]:  # a request a candidate
            request_of = None
        once = (dense_BM, embedded) if request_of is None else of_requests(dense_BM, embedded, requests)
        return self.candidate_side(self.user_side(*once), dense_BM, embedded, request_of)

    def user_side(self, dense_RM: Tensor, embedded: Embedded) -> UserStates:
        """What `states` gives. All of a batch's columns come in; with `split` the candidate's are not read: any numbers may stand there."""
        return self.states(*self.side.take(dense_RM, embedded))

    def states(self, dense_RM: Tensor, embedded: Embedded) -> UserStates:
        """Everything that does not depend on the candidate, once a request: the sequences, X_u, and the summaries of both.

        The user's columns alone come in.
        """
        x, events = self.preprocess(dense_RM, embedded)
        if self.early is not None:
            x, events = torch.cat([x, pool_all(self.early, events)], dim=1), []
        first = self.cross_archs[0]
        x_n = first.x_norm(x)
        x_sum = first.x_summary(x_n)
        s = [self.prepend(self._read_by_s(x_sum), part) for part in events]  # X_sum^(1) is the CLS of every sequence
        s_n = first.s_norm(s)
        s_sum = first.s_summary(s_n, x_n)
        reads = []
        for layer, cross_arch in zip(self.layers, self.cross_archs[1:], strict=True):
            read_by_x = s_sum if self.flow.x_reads_s else s_sum[:, :0]
            if self.candidate is not None:
                reads.append(torch.cat([x_n, read_by_x], dim=1))
            x, s = layer(x, x_n, read_by_x, s, s_n, self._read_by_s(x_sum))
            x_n, s_n = cross_arch.norms(x, s)
            x_sum, s_sum = cross_arch(x_n, s_n)
        return UserStates(tuple(reads), torch.cat([x_sum, s_sum], dim=1))

    def candidate_side(
        self, states: UserStates, dense_CM: Tensor, embedded: Embedded, request_of_candidate: Tensor | None = None
    ) -> Tensor:
        """(C, tasks) logits of the candidates of R requests. `request_of_candidate` (C,) says whose each is: integers below R.

        Without it candidate i is of request i. All columns come in, the candidate's are read; `embedded.events` may be empty.
        Raises InputError for a model without split, whose `states` are a row's and not a request's, and where rows do not match.
        """
        if request_of_candidate is not None:
            if self.candidate is None:
                raise InputError("one user's work can be shared by several candidates only with model.split: true")
            if dense_CM.shape[0] >= max(SHARED_FROM, self.candidate.pays_from) * states.summaries.shape[0]:
                return self._in_blocks(states, dense_CM, embedded, request_of_candidate)
            states = states.of(request_of_candidate)
        if states.summaries.shape[0] != dense_CM.shape[0]:
            raise InputError(
                f"{dense_CM.shape[0]} candidates, but the user's side is given for {states.summaries.shape[0]}: say in "
                "request_of_candidate which request each candidate belongs to"
            )
        if self.candidate is not None:
            dense_CM, embedded = self.candidate.side.take(dense_CM, embedded)
        return self.logits(states, dense_CM, embedded)

    def _in_blocks(
        self, states: UserStates, dense_CM: Tensor, embedded: Embedded, request_of_candidate: Tensor
    ) -> Tensor:
        """(C, tasks): products over the user's tokens once a request. On a GPU this waits for `request_of_candidate`."""
        assert self.candidate is not None
        requests = states.summaries.shape[0]
        blocks = CandidateBlocks.of(request_of_candidate.cpu().numpy(), requests)
        shared = self.shared(states)
        if len(blocks.owners) != requests or (blocks.owners[1:] <= blocks.owners[:-1]).any():
            shared = shared.of(torch.from_numpy(blocks.owners).to(dense_CM.device))
        shape = len(blocks.owners), blocks.size
        taken = None if blocks.taken is None else torch.from_numpy(blocks.taken).to(dense_CM.device)

        def cut(values: Tensor) -> Tensor:
            return (values if taken is None else values.index_select(0, taken)).unflatten(0, shape)

        dense_CM, embedded = self.candidate.side.take(dense_CM, embedded)
        fields = {width: cut(values) for width, values in embedded.fields.items()}
        logits = self.logits_of_requests(shared, cut(dense_CM), Embedded(fields, {})).flatten(0, 1)
        if blocks.places is None:
            return logits
        return logits.index_select(0, torch.from_numpy(blocks.places).to(logits.device))

    def logits(self, states: UserStates, dense_CM: Tensor, embedded: Embedded) -> Tensor:
        """(C, tasks) of the candidate's columns alone and a row of the user's states for each candidate."""
        summaries = states.summaries
        if self.candidate is not None:
            summaries = torch.cat([summaries, self.candidate(dense_CM, embedded, states.reads)], dim=1)
        flat = summaries.flatten(1)
        return torch.cat([head(flat) for head in self.heads], dim=1)

    def shared(self, states: UserStates) -> SharedStates:
        """What all candidates of a request share of their products, worked out once: a row for each row of the states."""
        assert self.candidate is not None
        flat = states.summaries.flatten(1)
        return SharedStates(self.candidate.shared(states.reads), [head.shared(flat) for head in self.heads])

    @property
    def shared_shapes(self) -> SharedShapes:
        """Of what `shared` gives."""
        assert self.candidate is not None
        return SharedShapes(self.candidate.shared_shapes, [head.shared_shape for head in self.heads])

    def logits_of_requests(self, shared: SharedStates, dense_RTM: Tensor, embedded: Embedded) -> Tensor:
        """(R, T, tasks): what `logits` gives for T candidates of each request. The fields are (R, T, F, w), the candidate's alone."""
        assert self.candidate is not None
        flat = self.candidate.folded(dense_RTM, embedded, shared.layers).flatten(2)
        return torch.cat([head.folded(flat, part) for head, part in zip(self.heads, shared.heads, strict=True)], dim=2)

    def _read_by_s(self, x_sum_BCD: Tensor) -> Tensor:
        """What the sequences read: X_sum, or learned tokens that are the same for every sample (flow: s2n, sep)."""
        return x_sum_BCD if self.untold is None else self.untold.to(x_sum_BCD.dtype).expand_as(x_sum_BCD)

    def prepend(self, x_sum_BCD: Tensor, events: EventTokens) -> Sequence:
        """CLS tokens in front of each sample's events; the layout and the turns serve all layers."""
        values, layout = events.values, events.layout(x_sum_BCD.shape[1])
        rotary = rotary_of(layout, self.attention_heads, self.head_dim, self.rope_base, self.longest, values)
        return Sequence(layout.prepend(x_sum_BCD, values), layout, rotary)
