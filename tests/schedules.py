"""Schedules of every kind that the package ``checkpoint_schedules`` has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import checkpoint_schedules as schedules
from checkpoint_schedules import StorageType

#: Each from the number of steps.
SCHEDULES: dict[str, Callable[[int], Any]] = {
    "memory": lambda n: schedules.SingleMemoryStorageSchedule(),
    "disk": lambda n: schedules.SingleDiskStorageSchedule(),
    "Revolve": lambda n: schedules.Revolve(n, 3),
    "DiskRevolve": lambda n: schedules.DiskRevolve(n, 2),
    "PeriodicDiskRevolve": lambda n: schedules.PeriodicDiskRevolve(n, 2),
    "HRevolve": lambda n: schedules.HRevolve(n, 2, 2),
    "multistage": lambda n: schedules.MultistageCheckpointSchedule(n, 2, 1),
    "two-level, memory": lambda n: schedules.TwoLevelCheckpointSchedule(
        4, 2, binomial_storage=StorageType.RAM
    ),
    "two-level, disk": lambda n: schedules.TwoLevelCheckpointSchedule(4, 2),
    "mixed, memory": lambda n: schedules.MixedCheckpointSchedule(n, 2, storage=StorageType.RAM),
    "mixed, disk": lambda n: schedules.MixedCheckpointSchedule(n, 2),
}
