"""Options of the command that trains. In: a parser; out: the same with them. No torch here: the command line starts at once."""

import argparse

from interformer_rec.training.scoring.arguments import add_config_arguments, add_trust_argument


def add_train_arguments(command: argparse.ArgumentParser) -> None:
    """A config, and how the run of it begins and goes on."""
    add_config_arguments(command)
    command.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the run")
    about = "with data.windows: wait for the next window after the last, until a signal; the same as --set training.follow=true"
    command.add_argument("--follow", action="append_const", dest="set", const="training.follow=true", help=about)
    command.add_argument(
        "--from",
        dest="source",
        metavar="RUN_OR_CHECKPOINT",
        help="begin with the weights of a trained run: same ids keep their rows, what is new starts fresh",
    )
    about = "with --from: tables and layers that have another shape there start fresh, too"
    command.add_argument("--from-partial", action="store_true", help=about)
    add_trust_argument(command)


def beginning(args: argparse.Namespace) -> tuple[str | None, bool, bool]:
    """What `train` begins with: the run, whether other shapes start fresh, whether the run is the user's own."""
    return args.source, args.from_partial, args.trust_run
