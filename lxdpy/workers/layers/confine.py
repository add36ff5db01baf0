"""Give up what a layer job does not need: the tar it reads may come from anybody."""

from __future__ import annotations

import os
import resource

from lxdpy.linux import capabilities, landlock

# SYS_ADMIN sets trusted.* attributes (opaque directories); landlock keeps it from mounting anything.
_KEPT = (
    capabilities.CAP_CHOWN,
    capabilities.CAP_DAC_OVERRIDE,
    capabilities.CAP_FOWNER,
    capabilities.CAP_FSETID,
    capabilities.CAP_SETFCAP,
    capabilities.CAP_MKNOD,
    capabilities.CAP_SYS_ADMIN,
)
# Before REFER (Linux 5.19), landlock refuses hardlinks between directories, always.
_ABI_REFER, _ABI_TRUNCATE, _ABI_SCOPE = 2, 3, 6
_OPEN_FILES = 1024
_ADDRESS_SPACE_BYTES = 4 << 30


def confine(directory_fd: int | None, max_file_bytes: int) -> None:
    """Let this process change files below `directory_fd` (None: no file) alone; descriptors that are open stay good.

    Call it before the first thread starts: kernel rules are a thread's. Raises OSError.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, _ADDRESS_SPACE_BYTES)
    _limit(resource.RLIMIT_FSIZE, max_file_bytes)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = _OPEN_FILES if most == resource.RLIM_INFINITY else min(_OPEN_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (enough, most))
    capabilities.set_no_new_privs()
    abi = landlock.abi_version()
    if abi >= _ABI_REFER:
        _lock(directory_fd, abi)
    capabilities.keep_only(_KEPT)


def _lock(directory_fd: int | None, abi: int) -> None:
    allowed = (
        landlock.ACCESS_FS_WRITE_FILE
        | landlock.ACCESS_FS_REMOVE_DIR
        | landlock.ACCESS_FS_REMOVE_FILE
        | landlock.ACCESS_FS_MAKE_CHAR
        | landlock.ACCESS_FS_MAKE_DIR
        | landlock.ACCESS_FS_MAKE_REG
        | landlock.ACCESS_FS_MAKE_FIFO
        | landlock.ACCESS_FS_MAKE_SYM
        | landlock.ACCESS_FS_REFER
    )
    if abi >= _ABI_TRUNCATE:
        allowed |= landlock.ACCESS_FS_TRUNCATE
    refused = landlock.ACCESS_FS_EXECUTE | landlock.ACCESS_FS_MAKE_SOCK | landlock.ACCESS_FS_MAKE_BLOCK
    scoped = landlock.SCOPE_SIGNAL | landlock.SCOPE_ABSTRACT_UNIX_SOCKET if abi >= _ABI_SCOPE else 0
    rules = landlock.create_ruleset(allowed | refused, scoped=scoped)
    try:
        if directory_fd is not None:
            landlock.add_path_rule(rules, directory_fd, allowed)
        landlock.restrict_self(rules)
    finally:
        os.close(rules)


def _limit(kind: int, value: int) -> None:
    _, most = resource.getrlimit(kind)
    value = value if most == resource.RLIM_INFINITY else min(value, most)
    resource.setrlimit(kind, (value, value))
