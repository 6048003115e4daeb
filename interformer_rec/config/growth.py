"""How the ids of a vocab table come and go. In: `grow` of a table; out: a checked object. No torch here."""

from pydantic import Field

from interformer_rec.config.strict import Count, Strict

MOST_IDS = 2**40  # of a table: bytes of its rows still fit into 64 bits


class Growth(Strict):
    """A table of constant size whose ids change from window to window (data.windows).

    At the start of a window, before it is trained on, its ids are counted. New ids are admitted: they get rows. Ids that were not seen for
    `keep` windows give up their rows; where more room is needed, so do those that were not seen for longest. A row that is given up starts
    again, as a copy of the unknown row with empty optimizer state. Without windows, ids are admitted once, from data.train.
    """

    rows: int = Field(
        ge=1, le=MOST_IDS, description="ids the table has room for, from the start to the end; special rows not counted"
    )
    min_count: Count = Field(1, description="an id is admitted once it was seen so often, in all windows together")
    keep: Count | None = Field(
        None,
        description="windows in a row without an id after which it gives up its row; null: only where room is needed",
    )
