"""What the error of a loss that is not finite says about checkpoints, and that no broken weights are saved."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from interformer_rec.checkpoint.retention import Checkpoints
from interformer_rec.config.run import RunConfig
from interformer_rec.training import run
from interformer_rec.training.non_finite_loss import NonFiniteLoss, what_is_left


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([], "There is no checkpoint from before: `--resume` begins again at step 0."),
        ([9, 12], "There is no checkpoint from before"),  # of a future that was given up
        (
            [4, 6],
            "The newest checkpoint, step-00000006, is from before, and a finite loss came after it: `--resume` goes on",
        ),
        (
            [8],
            "step-00000008, has the weights of this very step: if `--resume` ends here again, there is none before it.",
        ),
        ([6, 8], "if `--resume` ends here again, delete it to go on from step-00000006."),
    ],
)
def test_the_sentence_says_what_there_is(tmp_path: Path, steps: list[int], words: str) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in steps:
        checkpoints.folder(step).put("manifest.json", b"{}")
    checkpoints.folder(7).put("state.json", b"{}")  # never finished
    assert words in what_is_left(checkpoints, 9)


def test_a_run_that_diverges_saves_no_broken_weights_and_says_what_it_saved(
    small: Callable[..., RunConfig], tmp_path: Path
) -> None:
    overrides = ("optimizer.dense.lr=1e30", "training.checkpoint.every_steps=1", "training.checkpoint.keep=9")
    with pytest.raises(NonFiniteLoss) as caught:
        run.train(small(*overrides))
    step = caught.value.step
    saved = sorted(int(path.parent.name[5:]) for path in (tmp_path / "run").glob("checkpoints/step-*/manifest.json"))
    assert saved == list(range(1, step)), "one a step, none of the step that broke"
    assert f"step-{step - 1:08d}, has the weights of this very step" in str(caught.value)


def test_a_run_that_diverges_before_its_first_checkpoint_says_that(
    small: Callable[..., RunConfig], tmp_path: Path
) -> None:
    with pytest.raises(
        NonFiniteLoss, match=r"There is no checkpoint from before: `--resume` begins again at step 0"
    ) as caught:
        run.train(small("optimizer.dense.lr=1e30"))
    assert Path(re.findall(r"saved in '(.*?)'", str(caught.value))[0]).exists()
