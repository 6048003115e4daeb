"""model.json: what a version holds; signature.json beside it says what requests and answers are. In: facts of an export; out: the same."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from interformer_rec.errors import DamagedError
from interformer_rec.files import conform, json_object
from interformer_rec.serving.tables import Form

FORMAT: Literal[3] = 3  # 2: compiled graphs answered with the weights that they were compiled with
Runtime = Literal["aoti", "onnx", "eager"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
SUFFIX: dict[Runtime, str] = {"aoti": ".pt2", "onnx": ".onnx"}
Isa = Literal["x86-64-v3", "native"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=1, lt=1 << 48)]


class ArtefactJson(BaseModel):
    """JSON of an artefact."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Weights(ArtefactJson):
    """Which weights a state has, so that a later checkpoint of the run knows which rows may differ from them."""

    step: Annotated[int, Field(ge=0, lt=1 << 53)]
    full: Sha256  # of the manifest of the full checkpoint that they are, or build on


class StoredTable(ArtefactJson):
    """Where an embedding table lies: rows first .. first + rows - 1 of tables/WIDTH.safetensors."""

    file: str
    form: Form
    first: Annotated[int, Field(ge=0, lt=1 << 48)]
    rows: Size
    width: Size  # floats a row


class Contents(ArtefactJson):
    """model.json."""

    format: Literal[3] = FORMAT
    version: str
    kind: str  # of the model
    split: bool  # graphs user and candidate, or whole
    # that graphs are there for, the preferred one first; the modules themselves always run
    runtimes: tuple[Runtime, ...]
    isa: Isa | None  # instruction set of compiled graphs
    graphs: Sha256 | None  # what they were made of but the weights: another version of the same may take them over
    members: Size  # of an ensemble: how many have been trained
    weights: Weights
    recalibration: dict[str, tuple[float, float]] | None = None  # label -> scale, shift of the graphs' logits
    tables: dict[str, StoredTable]

    @classmethod
    def from_json(cls, content: bytes, source: str) -> Contents:
        """Raises DamagedError with `source`, the file's name."""
        found = json_object(content, source)
        if found.get("format") != FORMAT:
            raise DamagedError(
                f"{source} has format {found.get('format')!r:.20}; this release reads format {FORMAT}: export the run again"
            )
        return conform(found, cls, source)

    def to_json(self) -> str:
        """Text of model.json."""
        return self.model_dump_json(indent=1) + "\n"
