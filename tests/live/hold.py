"""Holds one thread of another process still (ptrace(2)) until stdin ends: hold.py TID.

Says `held` once it stands still. It goes on when this process ends, however that ends.
"""

import ctypes
import os
import sys

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17
WALL = 0x40000000  # threads, too: waitpid(2)


def ptrace(request: int, tid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    if libc.ptrace(request, tid, None, None) != 0:
        error = ctypes.get_errno()
        sys.exit(f"ptrace: {os.strerror(error)}")


tid = int(sys.argv[1])
ptrace(PTRACE_SEIZE, tid)
ptrace(PTRACE_INTERRUPT, tid)
os.waitpid(tid, WALL)
print("held", flush=True)
sys.stdin.read()
ptrace(PTRACE_DETACH, tid)
