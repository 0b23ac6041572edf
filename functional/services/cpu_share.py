"""A share of a core for a process and what it starts, by a control group of its own. Needs root."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

from functional.services.process import Missing

#: Where version 1's controller of CPU time and version 2's only hierarchy are mounted.
V1, V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")

#: Microseconds in which a group may use its share.
PERIOD = 100_000


@contextlib.contextmanager
def cpu_share(pid: int, share: float) -> Iterator[None]:
    """Let a process use this share of a core (0.125: an eighth) until the block ends. Raises Missing."""
    root = V1 if V1.exists() else V2
    group = root / f"marconi-{uuid.uuid4().hex[:12]}"
    quota = str(int(share * PERIOD))
    try:
        group.mkdir()
    except OSError as error:
        raise Missing(f"no control group can be made to limit CPU time ({error}); run this as root") from error
    try:
        try:
            if root is V1:
                (group / "cpu.cfs_period_us").write_text(str(PERIOD))
                (group / "cpu.cfs_quota_us").write_text(quota)
            else:
                (group / "cpu.max").write_text(f"{quota} {PERIOD}")
            (group / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            raise Missing(f"control groups can't limit CPU time here ({error})") from error
        yield
    finally:
        with contextlib.suppress(OSError):  # the process may have ended
            (root / "cgroup.procs").write_text(str(pid))
        group.rmdir()
