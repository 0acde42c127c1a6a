"""A container runtime's seccomp profile (JSON), loaded as a runtime does, by libseccomp.

confined.py PROFILE --try                              calls that must be refused, and io_uring, which must not
confined.py PROFILE [--root DIR] [--user N] -- COMMAND   a program under it, without privileges
"""

import ctypes
import errno
import json
import os
import platform
import sys

import seccomp

ACTIONS = {"SCMP_ACT_ALLOW": lambda _: seccomp.ALLOW, "SCMP_ACT_ERRNO": lambda number: seccomp.ERRNO(number)}
OPERATORS = {"SCMP_CMP_EQ": seccomp.EQ, "SCMP_CMP_NE": seccomp.NE, "SCMP_CMP_GE": seccomp.GE, "SCMP_CMP_MASKED_EQ": seccomp.MASKED_EQ}
PR_SET_NO_NEW_PRIVS = 38
# What io_uring_setup(2) and bpf(2) and the like are on x86-64 and arm64, where they have one number.
NUMBERS = {"io_uring_setup": 425}
FORBIDDEN = ["mount", "umount2", "bpf", "ptrace", "init_module", "kexec_load", "unshare", "setns", "keyctl", "reboot", "pivot_root", "perf_event_open", "userfaultfd"]
libc = ctypes.CDLL(None, use_errno=True)


def load(profile):
    """The profile's filter, in force from here on. Names that this libseccomp does not know are left out, as runtimes do."""
    default = ACTIONS[profile["defaultAction"]](profile.get("defaultErrnoRet", errno.EPERM))
    rules = seccomp.SyscallFilter(defaction=default)
    unknown = []
    for group in profile["syscalls"]:
        action = ACTIONS[group["action"]](group.get("errnoRet", errno.EPERM))
        for name in group["names"]:
            args = [argument(arg) for arg in group.get("args", [])]
            try:
                rules.add_rule(action, name, *args)
            except (ValueError, RuntimeError):
                unknown.append(name)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    rules.load()
    return unknown


def argument(arg):
    operator = OPERATORS[arg["op"]]
    if arg["op"] == "SCMP_CMP_MASKED_EQ":
        # The JSON has the mask first.
        return seccomp.Arg(arg["index"], operator, arg["value"], arg["valueTwo"])
    return seccomp.Arg(arg["index"], operator, arg["value"])


def answer(number):
    """What the kernel says to a call with arguments that mean nothing."""
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), ctypes.c_long(-1), ctypes.c_long(0), ctypes.c_long(0), ctypes.c_long(0), ctypes.c_long(0))
    return 0 if result >= 0 else ctypes.get_errno()


def attempt(profile):
    numbers = {name: seccomp.resolve_syscall(seccomp.Arch(), name) for name in FORBIDDEN}
    before = {name: answer(number) for name, number in numbers.items()}
    unknown = load(profile)
    print(f"{len(unknown)} names are newer than this libseccomp: {' '.join(unknown)}", file=sys.stderr)
    refused = [name for name, number in numbers.items() if answer(number) == errno.EPERM]
    if refused != FORBIDDEN:
        sys.exit(f"not refused: {sorted(set(FORBIDDEN) - set(refused))}")
    if all(number == errno.EPERM for number in before.values()):
        sys.exit("these calls were refused without the filter, too: it was not tried")
    parameters = ctypes.create_string_buffer(120)
    ring = libc.syscall(ctypes.c_long(NUMBERS["io_uring_setup"]), ctypes.c_long(8), parameters)
    if ring < 0:
        sys.exit(f"io_uring_setup: {os.strerror(ctypes.get_errno())}")
    os.close(ring)


def main():
    path, arguments = sys.argv[1], sys.argv[2:]
    with open(path, encoding="utf-8") as file:
        profile = json.load(file)
    if arguments == ["--try"]:
        attempt(profile)
        return
    end = arguments.index("--")
    command, options = arguments[end + 1 :], dict(zip(arguments[0:end:2], arguments[1:end:2]))
    if "--root" in options:
        os.chroot(options["--root"])
        os.chdir("/")
    if "--user" in options:
        user = int(options["--user"])
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    load(profile)
    os.execv(command[0], command)


if platform.system() != "Linux":
    sys.exit("seccomp is Linux'")
main()
