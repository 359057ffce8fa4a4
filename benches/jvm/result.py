"""What one run of a contestant came to."""
import dataclasses


@dataclasses.dataclass
class Result:
    events: int
    cpu: float  # seconds, user and system
    wall: float
    peak_mib: float = 0
    event_bytes: float | None = None  # key and value, before compression
    startup: float | None = None  # CPU seconds before the first event, not in `cpu`; None: they are in it
    anonymous_mib: float | None = None
    is_part: bool = False  # of a run that has a result of its own

    @property
    def cpu_per_million(self):
        return self.cpu / self.events * 1e6

    @property
    def rate(self):
        return self.events / self.wall
