"""Platforms: operating system, CPU architecture and variant, in Go's words as OCI uses them."""

import platform
from dataclasses import dataclass

_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
}

# Other names in images, as containerd reads them.
_ALIASES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}

# The variant that none stands for, and whether a CPU runs the lower ones too.
_DEFAULT_VARIANT = {"amd64": "v1", "arm64": "v8", "arm": "v7"}


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def host(cls) -> "Platform":
        """This host's platform."""
        architecture, variant = _MACHINES.get(platform.machine(), (platform.machine(), ""))
        return cls("linux", architecture, variant)

    def normalised(self) -> "Platform":
        """The same platform in its one spelling."""
        architecture, variant = _ALIASES.get(self.architecture.lower(), (self.architecture.lower(), ""))
        variant = self.variant.lower() or variant or _DEFAULT_VARIANT.get(architecture, "")
        if variant[:1].isdigit():
            variant = f"v{variant}"
        return Platform(self.os.lower(), architecture, variant)

    def distance(self, offered: "Platform") -> int | None:
        """How far `offered` is from the best that could be run here: 0 is exact, None can't be run.

        A CPU of a higher variant runs images of the lower ones: arm v7 those of v6.
        """
        wanted, offered = self.normalised(), offered.normalised()
        if (wanted.os, wanted.architecture) != (offered.os, offered.architecture):
            return None
        if wanted.variant == offered.variant:
            return 0
        if wanted.architecture not in _DEFAULT_VARIANT:
            return 1 if not offered.variant else None
        levels = wanted.variant.removeprefix("v"), offered.variant.removeprefix("v")
        if not all(level.isascii() and level.isdigit() and len(level) < 4 for level in levels):
            return None
        higher, lower = map(int, levels)
        return higher - lower if lower < higher else None

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)
