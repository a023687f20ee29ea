"""Training in several processes, by fastai's ``distrib_ctx``."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from fastai.distributed import DistributedDL, teardown_distrib  # the import adds Learner.distrib_ctx
from fastai.vision.all import Learner, num_distrib, rank_distrib


def is_first() -> bool:
    """Whether this is the only process, or the first of several: the one that writes files."""
    return not rank_distrib()


def is_one_of_several() -> bool:
    """Whether other processes train with this one."""
    return bool(num_distrib())


def across_processes(learn: Learner) -> AbstractContextManager[Any]:
    """fastai's ``distrib_ctx``. Batch norms are synchronised on GPUs only, since torch cannot do it on the CPU."""
    if not num_distrib():
        return nullcontext()
    if torch.cuda.is_available():
        return learn.distrib_ctx()  # type: ignore[no-any-return]
    DistributedDL._broadcast = _broadcast
    return learn.distrib_ctx(sync_bn=False, cpu=True)  # type: ignore[no-any-return]


def _broadcast(loader: Any, numbers: list[int], rank: int) -> list[int]:
    """fastai's ``DistributedDL._broadcast``, without its copy to the GPU."""
    tensor = torch.tensor(numbers)
    torch.distributed.broadcast(tensor, rank)
    received: list[int] = tensor.tolist()
    return received


def leave_other_processes() -> None:
    """Go on alone after training; otherwise fastai would gather every prediction from all processes."""
    if num_distrib():
        teardown_distrib()
        del os.environ["WORLD_SIZE"]
