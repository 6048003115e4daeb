"""What the process loads that ranks are forked from, beside the package: what a job would load, read or compile at its first use.

Imported there, last and once. Its objects are taken out of garbage collection: no child looks through a million of them, which also copies
the pages they are on.
"""

import gc

import torch.utils.tensorboard  # noqa: F401 - with boto3 and protobuf, where they are installed

from interformer_rec.html import environment
from interformer_rec.install import stack
from interformer_rec.training.report import page
from interformer_rec.training.start.same_run import LIBRARIES, _source

stack.installed()
for name in LIBRARIES:
    stack.version_of(name)
_source()
environment._environment(page.HERE).get_template("page.html.j2")
gc.collect()
gc.freeze()
