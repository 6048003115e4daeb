"""Model quality: every system tuned alike, tested once, with what it costs and how sure the differences are.

    python -m benchmarks.quality --drafts [--data synthetic,ml_100k,completejourney,NAME=FOLDER] [--models interformer,din,dcnv2,bst]
        [--seeds 3] [--out DIR] [--workers 1] [--threads 1] [--override a.b=c ...]
    python -m benchmarks.quality --data kuairand_pure|ml_100k [--models all|a,b,c]
        [--set systems|flow|aggregation|ablation|scaling|teaching] [--seeds 5] [--budget 20] [--epochs 2]
        [--quick] [--shuffled] [--speed] [--data-dir DIR] [--out DIR] [--workers 1] [--threads 1]
        [--override a.b=c ...] [--known QUALITY.json]

Each system gets --budget trials of the same search on a validation split cut by time, then --seeds final runs, which read the test
file once. --budget 0: the fixed recipes of quality_sets.yaml. --quick: 1 seed, fixed recipes, one epoch (for InterFormer, on
KuaiRand, two of events before, not six), two workers. --shuffled: labels permuted in every split; AUC must be 0.5.
--speed: training rows/s too, measured when nothing else of the study runs.
--known: systems of an earlier result (benchmarks/results/quality-*.json, say) whose runs would be the same are taken from there;
with --budget 0 those whose search kept the recipe.
--drafts: what a new user gets. Every kind is trained by the draft that `interformer inspect --kind` makes of the folder, untouched.
The same command again goes on where it was stopped, and runs nothing twice. Out: DIR/quality.json, quality.md, quality.png; of --drafts
DIR/drafts.json, and the drafts in DIR/drafts/.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.harness.result_file import write_result
from benchmarks.quality.drafts import KINDS, DraftChoices, Drafts, folders_of, show_drafts
from benchmarks.quality.report import learned_from_noise, markdown, plot, show
from benchmarks.quality.runs import Interrupted
from benchmarks.quality.sets import Sets, load_sets, unknown
from benchmarks.quality.study import Choices, Study
from interformer_rec.errors import InputError

QUICK = {"seeds": 1, "budget": 0, "epochs": 1, "workers": 2}
DRAFT_NUMBERS = {"seeds": 3, "workers": 1, "threads": 1}
FULL = {"seeds": 5, "budget": 20, "epochs": 2, "workers": 1}


def main() -> int:
    """Exit code: 0 fine, 1 stopped by a signal (go on with the same command) or a leak that --shuffled found, 2 bad input."""
    try:
        choices = parse(load_sets())
        if isinstance(choices, DraftChoices):
            return _drafts(choices)
        choices.out.mkdir(parents=True, exist_ok=True)
        result = Study(choices).result()
    except InputError as error:
        print(f"quality: {error}", file=sys.stderr)
        return 2
    except (Interrupted, KeyboardInterrupt):
        print("quality: stopped; the same command goes on from here", file=sys.stderr)
        return 1
    show(result, Console(width=None if sys.stdout.isatty() else 220))
    (choices.out / "quality.md").write_text(markdown(result), encoding="utf-8")
    plot(result, choices.out / "quality.png")
    write_result(str(choices.out / "quality.json"), result)
    return 1 if learned_from_noise(result) else 0


def _drafts(choices: DraftChoices) -> int:
    result = Drafts(choices).result()
    show_drafts(result, Console(width=None if sys.stdout.isatty() else 220))
    write_result(str(choices.out / "drafts.json"), result)
    return 0


def parse(sets: Sets) -> Choices | DraftChoices:
    """The command line. Raises InputError for a name that is not known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help=", ".join(sets.data))
    parser.add_argument("--drafts", action="store_true", help="every kind by inspect's draft, on all of --data")
    parser.add_argument("--models", help="names by comma, or all")
    parser.add_argument("--set", help="a named set instead of --models: " + ", ".join(sets.sets))
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--budget", type=int, help="trials a system; 0: its fixed recipe")
    parser.add_argument("--epochs", type=int, help="at most; validation picks the best")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--shuffled", action="store_true")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--data-dir")
    parser.add_argument("--out")
    parser.add_argument("--workers", type=int, help="trainings at once")
    parser.add_argument("--threads", type=int, default=1, help="of a training")
    parser.add_argument(
        "--override", action="append", default=[], metavar="a.b=c", help="a run-config key, for every run"
    )
    parser.add_argument("--known", metavar="QUALITY.json", help="an earlier result; its systems are not run again")
    options = parser.parse_args()
    if options.drafts:
        return _draft_choices(options)
    if options.data is None:
        raise InputError(f"--data is missing: one of {', '.join(sets.data)}")
    if options.data not in sets.data:
        raise InputError(unknown("--data", options.data, sets.data))
    defaults = QUICK if options.quick else FULL
    numbers = {name: defaults[name] if getattr(options, name) is None else getattr(options, name) for name in defaults}
    for name, value in {**numbers, "threads": options.threads}.items():
        least = 0 if name == "budget" else 1
        if value < least:
            raise InputError(f"--{name} {value} is less than {least}")
    dataset = sets.data[options.data].shortened() if options.quick else sets.data[options.data]
    kind = "-shuffled" if options.shuffled else ""
    return Choices(
        data=options.data,
        dataset=dataset,
        folder=dataset.folder_of(options.data_dir),
        out=Path(options.out or f"runs/quality-{options.data}{kind}"),
        systems=sets.systems(options.models, options.set),
        shuffled=options.shuffled,
        speed=options.speed,
        threads=options.threads,
        changes=tuple(options.override),
        known=options.known,
        **numbers,
    )


def _draft_choices(options: argparse.Namespace) -> DraftChoices:
    """Raises InputError, for options of the other form too."""
    for name in ("set", "budget", "epochs", "quick", "shuffled", "speed", "data_dir", "known"):
        if getattr(options, name) not in (None, False):
            raise InputError(f"--{name.replace('_', '-')} does not go with --drafts: the drafts say it all")
    numbers = {name: getattr(options, name) for name in ("seeds", "workers", "threads")}
    return DraftChoices(
        folders=folders_of(options.data),
        kinds=tuple(options.models.split(",")) if options.models else KINDS,
        out=Path(options.out or "runs/quality-drafts"),
        changes=tuple(options.override),
        **{name: default if numbers[name] is None else numbers[name] for name, default in DRAFT_NUMBERS.items()},
    )
