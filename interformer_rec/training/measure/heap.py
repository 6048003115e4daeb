"""One heap for all threads of a process on CPU. In: nothing; out: settings of glibc's malloc. Loads neither torch nor Arrow.

Memory that nobody uses can be neither measured nor planned, and glibc keeps much of it: each thread of the loader frees into an arena
of its own, from which the training thread never takes. With one arena a CPU rank's peak was up to a quarter lower, and decoding took
as long (docs/decisions/0010).
"""

import ctypes
import platform

M_ARENA_MAX = -8  # <malloc.h>


def one_arena() -> None:
    """To be called before there are threads: glibc settles the number of arenas when a second thread first allocates."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """Return free pages to the system, so that what preparations have left is in nobody's numbers."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
