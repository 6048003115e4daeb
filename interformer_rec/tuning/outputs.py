"""The files of a study. In: a study; out: best.yaml, study.json and study.html in its folder, each whole at any time."""

import json
import os
import socket

from interformer_rec.config import run as run_config
from interformer_rec.files import write_whole
from interformer_rec.text import metric
from interformer_rec.tuning.page.page import render
from interformer_rec.tuning.study import RUN, SETTINGS, Study
from interformer_rec.tuning.summary import summary

BEST, JSON, PAGE = "best.yaml", "study.json", "study.html"


def write(study: Study) -> None:
    """What is known now; workers that share a folder write the same. Raises OSError."""
    out, writer = study.question.out, f"{socket.gethostname()}-{os.getpid()}."
    out.mkdir(parents=True, exist_ok=True)
    content = summary(study)
    best = study.best()
    if best is not None:
        config = study.question.best(json.loads(best.user_attrs[SETTINGS]))
        run = best.user_attrs[RUN]
        head = f"# trial {run} of the study {study.name}: {study.question.metric} {metric(best.value)} on data.valid\n"
        write_whole(out / BEST, head + run_config.to_yaml(config), writer)
    write_whole(out / JSON, json.dumps(content, indent=1) + "\n", writer)
    write_whole(out / PAGE, render(content), writer)
