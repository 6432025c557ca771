"""The system calls that a script in a sandbox may not make, as a filter that bubblewrap loads.

They are those that reach what no namespace keeps apart (the kernel's keyrings, clocks and modules), that make further
namespaces and mounts, or that have mostly been of use to break out. A program sees that it is not permitted, or, where
the C library has another way, that there is no such call. Other calls are left to the namespaces.
"""

from __future__ import annotations

import platform
import struct
from typing import Final, NamedTuple

__all__ = ["program"]


class _Machine(NamedTuple):
    """`architecture` as the kernel names it; then numbers of system calls."""

    architecture: int
    clone: int
    unshare: int
    ioctl: int
    forbidden: tuple[int, ...]


_ALIKE: Final = (*range(425, 434), 442)  # io_uring_…, open_tree … fspick, mount_setattr
_CLONE3: Final = 435

_MACHINES: Final = {
    "x86_64": _Machine(
        0xC000003E, 56, 272, 16,
        (
            248, 249, 250,  # add_key, request_key, keyctl
            321, 298, 323,  # bpf, perf_event_open, userfaultfd
            165, 166, 155, 161, 308,  # mount, umount2, pivot_root, chroot, setns
            246, 320, 175, 313, 176,  # kexec_load, kexec_file_load, init_module, finit_module, delete_module
            303, 304,  # name_to_handle_at, open_by_handle_at
            167, 168, 169, 163, 179, 103,  # swapon, swapoff, reboot, acct, quotactl, syslog
            164, 227, 159, 172, 173, 212, *_ALIKE,  # settimeofday, clock_settime, adjtimex, iopl, ioperm, …
        ),
    ),
    "aarch64": _Machine(
        0xC00000B7, 220, 97, 29,
        (217, 218, 219, 280, 241, 282, 40, 39, 41, 51, 268, 104, 294, 105, 273, 106, 264, 265, 224, 225, 142, 89, 60,
         116, 170, 112, 171, 18, *_ALIKE),  # the same, as far as there are such
    ),
}  # fmt: skip

_NAMESPACES: Final = 0x7E020000  # the flags CLONE_NEW… of clone and unshare
_TERMINAL_INPUT: Final = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: they type for somebody else

_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_NOT_PERMITTED: Final = 0x00050000 | 1  # EPERM
_NO_SUCH_CALL: Final = 0x00050000 | 38  # ENOSYS
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24  # where these are in what the filter sees

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


def program() -> bytes:
    """The filter for this machine, empty where we know no numbers."""
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return b""
    code: list[bytes] = []

    def add(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> None:
        code.append(struct.pack("=HBBI", operation, if_true, if_false, value))

    add(_LOAD, _ARCHITECTURE)
    add(_JUMP_EQUAL, machine.architecture, 1)
    add(_RETURN, _KILL)  # calls of another architecture have other numbers
    add(_LOAD, _NUMBER)
    add(_JUMP_AT_LEAST, 0x40000000, 0, 1)  # x32
    add(_RETURN, _NO_SUCH_CALL)
    for number in machine.forbidden:
        add(_JUMP_EQUAL, number, 0, 1)
        add(_RETURN, _NOT_PERMITTED)
    add(_JUMP_EQUAL, _CLONE3, 0, 1)  # its flags are in memory; the C library then calls clone
    add(_RETURN, _NO_SUCH_CALL)
    for number, argument, values, test in (
        (machine.clone, _FIRST, (_NAMESPACES,), _JUMP_SET),
        (machine.unshare, _FIRST, (_NAMESPACES,), _JUMP_SET),
        (machine.ioctl, _SECOND, _TERMINAL_INPUT, _JUMP_EQUAL),
    ):
        add(_JUMP_EQUAL, number, 0, 2 + 2 * len(values))
        add(_LOAD, argument)
        for value in values:
            add(test, value, 0, 1)
            add(_RETURN, _NOT_PERMITTED)
        add(_RETURN, _ALLOW)
    add(_RETURN, _ALLOW)
    return b"".join(code)
