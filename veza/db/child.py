"""What stands between us and a PostgreSQL program for a few milliseconds: it becomes the right user and turns into it.

Run as a script by `embedded.py`, never imported (no code may run between fork and exec in a process with threads). It
must import nothing but the standard library, and everything before it gives its rights away: afterwards it may be
unable to read Python's own files.

Argument 1 is a JSON object, the rest is the program and its arguments:
    parent  our pid; if that process is gone already, we end at once
    lifeline  descriptor of a pipe whose other end our parent holds, for systems that have no PR_SET_PDEATHSIG
    account [uid, gid] to become, or null
    paths   what that account must reach; if directories above forbid it, it keeps the one right to pass through them
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
from typing import Any

PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_SET_SECUREBITS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 8, 28, 47, 2
NO_SETUID_FIXUP_LOCKED = 1 << 2 | 1 << 3
CAP_SETPCAP = 8
# Reading and searching everywhere is the smaller right; containers often grant only the larger one.
CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE = 2, 1
CAPABILITY_VERSION_3 = 0x20080522


class CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class CapData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


class Kernel:
    """The Linux calls that the standard library does not offer. Elsewhere every one of them says no."""

    def __init__(self) -> None:
        self.libc: Any = ctypes.CDLL(None, use_errno=True)
        self.linux = sys.platform == "linux"

    def prctl(self, option: int, *values: int) -> bool:
        arguments = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
        return self.linux and self.libc.prctl(option, *arguments) == 0

    def permitted(self) -> int:
        data = (CapData * 2)()
        header = CapHeader(CAPABILITY_VERSION_3, 0)
        if not self.linux or self.libc.capget(ctypes.byref(header), ctypes.byref(data)) != 0:
            return 0
        return int(data[0].permitted)

    def set(self, effective: int, permitted: int, inheritable: int) -> bool:
        data = (CapData * 2)(CapData(effective, permitted, inheritable), CapData(0, 0, 0))
        header = CapHeader(CAPABILITY_VERSION_3, 0)
        return self.linux and self.libc.capset(ctypes.byref(header), ctypes.byref(data)) == 0

    def let_access_see_capabilities(self) -> None:
        """`access(2)` asks without capabilities for anybody but root, unless this bit is set; PostgreSQL's programs
        ask it whether their neighbours are there. Needs a right that some containers withhold: then it stays so."""
        permitted = self.permitted()
        if permitted >> CAP_SETPCAP & 1 and self.set(1 << CAP_SETPCAP, permitted, 0):
            self.prctl(PR_SET_SECUREBITS, NO_SETUID_FIXUP_LOCKED)

    def keep(self, capabilities: int) -> bool:
        """Give up all capabilities but these, which also survive exec (ambient)."""
        if not self.set(capabilities, capabilities, capabilities):
            return False
        return all(
            self.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)
            for number in range(32)
            if capabilities >> number & 1
        )


def become(kernel: Kernel, uid: int, gid: int, paths: list[str]) -> None:
    """Take the account on, keeping no right but, where it has to be, that of passing through directories."""
    kernel.prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    # From here on the effective set is empty (the permitted one is not yet), so this asks as the account itself.
    if all(os.access(path, os.X_OK) for path in paths):
        kernel.keep(0)
        return
    kernel.let_access_see_capabilities()
    permitted = kernel.permitted()
    for capability in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
        if permitted >> capability & 1 and kernel.keep(1 << capability):
            return
    sys.exit(
        f"the account with uid {uid} that runs PostgreSQL may not pass through to {' or '.join(paths)}: "
        "let veza run as an ordinary user, or set VEZA_DATA to a directory everybody may pass through"
    )


def watch(postmaster: int, lifeline: int) -> None:
    """Stay beside the postmaster and stop it when our parent, who holds the other end of the pipe, is gone."""
    while os.getppid() == postmaster:
        if select.select([lifeline], [], [], 1.0)[0]:
            os.kill(postmaster, signal.SIGINT)
            break


def main() -> None:
    order = json.loads(sys.argv[1])
    program = sys.argv[2:]
    kernel = Kernel()
    os.umask(0o077)
    if order["account"] is not None:
        uid, gid = order["account"]
        become(kernel, uid, gid, order["paths"])
    # SIGINT is PostgreSQL's fast shutdown: nothing to recover afterwards.
    lifeline = order["lifeline"]
    if lifeline is None:
        kernel.prctl(PR_SET_PDEATHSIG, signal.SIGINT)  # after the change of user, which clears it
    else:
        postmaster = os.getpid()
        if os.fork() == 0:
            with contextlib.suppress(OSError):
                watch(postmaster, lifeline)
            os._exit(0)
        os.close(lifeline)
    if os.getppid() != order["parent"]:
        sys.exit("the process that wanted this is gone")
    # Python ignores SIGPIPE, and an ignored signal stays ignored through exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
