"""Runs a program below the seccomp filters that systemd would give it: unit_filter.py UNIT PROGRAM [ARGUMENT…].

The filters are made from the unit's own words by libseccomp. Of the words in systemd.exec(5) it knows those that the unit
uses; another that means seccomp, too, ends it, so that none is left out.
"""

import errno
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterable

import seccomp
from seccomp import ALLOW, EQ, ERRNO, GT, LT, MASKED_EQ, NE, Arg, SyscallFilter

PROT_WRITE, PROT_EXEC, SHM_EXEC = 2, 4, 0o100000
S_ISUID, S_ISGID = 0o4000, 0o2000
O_CREAT = 0o100
NAMESPACES = (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)  # CLONE_NEW*
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}
# What other words deny besides what they hide (systemd.exec(5)).
DENIES = {
    "PrivateDevices": ("@raw-io",),
    "ProtectClock": ("@clock",),
    "ProtectHostname": ("sethostname", "setdomainname"),
    "ProtectKernelLogs": ("syslog",),
    "ProtectKernelModules": ("@module",),
    "ProtectKernelTunables": ("_sysctl",),
}
REALTIME = (1, 2, 6)  # SCHED_FIFO, SCHED_RR, SCHED_DEADLINE


def settings(unit: str) -> list[tuple[str, str]]:
    lines = pathlib.Path(unit).read_text().splitlines()
    return [tuple(line.split("=", 1)) for line in lines if re.match(r"^[A-Za-z0-9]+=", line)]


def members(group: str) -> set[str]:
    """The system calls of a group, the groups within it opened."""
    text = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", group], check=True, capture_output=True, text=True
    ).stdout
    found = set()
    for word in text.split("\n")[1:]:
        word = word.strip()
        if word.startswith("@"):
            found |= members(word)
        elif word and not word.startswith("#"):
            found.add(word)
    return found


def named(words: Iterable[str]) -> set[str]:
    """System calls by their names, and those of groups."""
    return set().union(*(members(word) if word.startswith("@") else {word} for word in words))


def allowed(lines: list[str]) -> set[str]:
    """What several SystemCallFilter= come to: the first decides that it is a list of what is allowed."""
    assert lines and not lines[0].startswith("~"), "the unit's first SystemCallFilter= lists what is allowed"
    calls = set(members("@default"))
    for line in lines:
        these = named(line.lstrip("~").split())
        calls = calls - these if line.startswith("~") else calls | these
    return calls


def rule(program: SyscallFilter, action: int, call: str, *arguments: Arg) -> None:
    try:
        program.add_rule_exactly(action, call, *arguments)
    except (RuntimeError, OSError, ValueError):
        # Not a system call of this machine: `clone2`, `mmap2`.
        if seccomp.resolve_syscall(seccomp.Arch(), call) >= 0:
            raise


def denials(words: dict[str, str]) -> SyscallFilter:
    """What is denied for its arguments: everything else passes."""
    program, refuse = SyscallFilter(ALLOW), ERRNO(errno.EPERM)
    for word, calls in DENIES.items():
        if words.get(word, "no") == "yes":
            for call in named(calls):
                rule(program, refuse, call)
    if words.pop("MemoryDenyWriteExecute", "no") == "yes":
        both = PROT_WRITE | PROT_EXEC
        rule(program, refuse, "mmap", Arg(2, MASKED_EQ, both, both))
        for call in ("mprotect", "pkey_mprotect"):
            rule(program, refuse, call, Arg(2, MASKED_EQ, PROT_EXEC, PROT_EXEC))
        rule(program, refuse, "shmat", Arg(2, MASKED_EQ, SHM_EXEC, SHM_EXEC))
    if words.pop("RestrictNamespaces", "no") == "yes":
        rule(program, refuse, "setns")
        # Its flags are behind a pointer.
        rule(program, ERRNO(errno.ENOSYS), "clone3")
        for flag in NAMESPACES:
            rule(program, refuse, "unshare", Arg(0, MASKED_EQ, flag, flag))
            rule(program, refuse, "clone", Arg(0, MASKED_EQ, flag, flag))
    if words.pop("RestrictRealtime", "no") == "yes":
        for policy in REALTIME:
            rule(program, refuse, "sched_setscheduler", Arg(1, EQ, policy))
        rule(program, refuse, "sched_setattr")
    if words.pop("LockPersonality", "no") == "yes":
        rule(program, refuse, "personality", Arg(0, NE, 0))
    if words.pop("RestrictSUIDSGID", "no") == "yes":
        for call, at in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("mkdir", 1), ("mkdirat", 2), ("mknod", 1), ("mknodat", 2), ("creat", 1)):
            for bit in (S_ISUID, S_ISGID):
                rule(program, refuse, call, Arg(at, MASKED_EQ, bit, bit))
        for call, flags, mode in (("open", 1, 2), ("openat", 2, 3)):
            for bit in (S_ISUID, S_ISGID):
                rule(program, refuse, call, Arg(flags, MASKED_EQ, O_CREAT, O_CREAT), Arg(mode, MASKED_EQ, bit, bit))
    if "RestrictAddressFamilies" in words:
        known = sorted(FAMILIES[name] for name in words.pop("RestrictAddressFamilies").split())
        no_such = ERRNO(errno.EAFNOSUPPORT)
        for call in ("socket", "socketpair"):
            rule(program, no_such, call, Arg(0, LT, known[0]))
            rule(program, no_such, call, Arg(0, GT, known[-1]))
            for family in set(range(known[0], known[-1])) - set(known):
                rule(program, no_such, call, Arg(0, EQ, family))
    return program


def main() -> None:
    unit, program = sys.argv[1], sys.argv[2:]
    pairs = settings(unit)
    lists = [value for name, value in pairs if name == "SystemCallFilter"]
    words = {name: value for name, value in pairs if name != "SystemCallFilter"}
    assert words.pop("SystemCallErrorNumber") == "EPERM"
    # A filter has the machine's own architecture alone, and kills what calls by another.
    assert words.pop("SystemCallArchitectures") == "native"
    listed = SyscallFilter(ERRNO(errno.EPERM))
    for call in sorted(allowed(lists)):
        rule(listed, ALLOW, call)
    denied = denials(words)
    left = {name for name in words if name.startswith(("SystemCall", "Restrict", "Lock", "MemoryDeny"))}
    assert not left, f"filters of {left} are not made here"
    denied.load()
    # The last one: it allows no further filter to be made.
    listed.load()
    os.execv(program[0], program)


main()
