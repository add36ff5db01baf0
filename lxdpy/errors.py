"""Every error lxdpy raises on purpose.

    LxdpyError
    ├── InvalidRequestError      the request can't be right, whoever sends it
    │   └── UnsupportedError     understood, and not offered here
    ├── AccessDeniedError        a registry or the daemon refuses this caller
    ├── NotFoundError            what was named does not exist
    ├── ConflictError            the thing exists, or is in a state that forbids the request
    │   └── BusyError            another job holds it: try again later
    ├── PreconditionFailedError  If-Match named another version
    ├── ShuttingDownError        the daemon takes no new work
    ├── NoSpaceError             disk space or inodes will not do
    ├── RegistryError            a registry broke the protocol, can't be reached or limits us
    │   └── DigestMismatchError  bytes are not what their descriptor says
    ├── LayerError               a layer's tar stream is malformed, hostile or over a limit
    └── WorkerError              a worker process died, hung or reported a failure of the system

A message says what was attempted, on what, and why it failed.
"""


class LxdpyError(Exception):
    """Base of every deliberate error; `str()` is the text a client may see."""


class InvalidRequestError(LxdpyError):
    """The request is malformed or asks for something impossible."""


class UnsupportedError(InvalidRequestError):
    """The request is understood, and this daemon does not offer it."""


class AccessDeniedError(LxdpyError):
    """The caller, or the credentials used on its behalf, may not do this."""


class NotFoundError(LxdpyError):
    """What was named does not exist."""


class ConflictError(LxdpyError):
    """The thing exists already, or its state forbids the request."""


class BusyError(ConflictError):
    """Another job holds the thing."""


class PreconditionFailedError(LxdpyError):
    """If-Match named another version than the current one."""


class ShuttingDownError(LxdpyError):
    """The daemon is stopping and takes no new work."""


class NoSpaceError(LxdpyError):
    """The file system has not enough blocks or inodes for the job."""


class RegistryError(LxdpyError):
    """A registry broke the protocol, can't be reached, or limits us."""


class DigestMismatchError(RegistryError):
    """Bytes do not have the digest or size that their descriptor promises."""


class LayerError(LxdpyError):
    """A layer's tar stream is malformed, hostile, or over a limit."""


class WorkerError(LxdpyError):
    """A worker process died, hung, or a system call failed in it."""
