"""Samples as they are taken: by work and by who did it, kept between runs so that one subject can be measured again."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Results:
    """All samples of a run; `works[work][who]` in the unit that report.py gives the work."""

    works: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, work: str, who: str, value: float) -> None:
        """Keep one sample."""
        self.works.setdefault(work, {}).setdefault(who, []).append(value)
        print(f"bench: {work:<14} {who:<15} {value:10.3f}", flush=True)

    def timed(self, work: str, who: str, call: Callable[[], object], *, scale: float = 1.0) -> None:
        """Run `call` and keep the seconds that it took, times `scale`."""
        began = time.perf_counter()
        call()
        self.add(work, who, (time.perf_counter() - began) * scale)

    def median(self, work: str, who: str) -> float | None:
        """The middle sample, None without any."""
        samples = self.works.get(work, {}).get(who)
        return statistics.median(samples) if samples else None

    def merge_into(self, path: Path) -> "Results":
        """Replace the works measured now in the file; the whole of it comes back."""
        merged = Results()
        if path.exists():
            merged = Results(json.loads(path.read_text()))
        merged.works.update(self.works)
        path.write_text(json.dumps(merged.works))
        return merged
