"""What is done to a running inversion, and what has to come of it.

Each case starts a run that nobody has started before, does something to it, watches it end, and
lets a second run continue it. The oracle is a run to which nothing happens: its state file has
every evaluation it made, or every iteration of a distributed field.
"""

from __future__ import annotations

import pickle
import re
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np

from adjoint.optimize import Iteration
from tests.faults.disk import SmallDisk
from tests.faults.watch import LIMIT, PATIENCE, End, Job

PROBLEMS = ("poisson", "acoustic", "field")

#: How far values and gradients may be apart on other ranks, relative to the first and the largest.
#: Where a system is solved to 1e-10, a misfit that has become small loses digits; a wave is summed
#: in another order only.
TOLERANCE = {"poisson": 1e-8, "acoustic": 1e-10}


class Whole(NamedTuple):
    """A run to which nothing happened.

    Attributes
    ----------
    rows : numpy.ndarray
        Its evaluations, or iterations.
    end : str
        Its last line.
    seconds : float
        How long it took.
    files : list of str
        What it left, but for the number of a file of fields.
    """

    rows: Any
    end: str
    seconds: float
    files: list[str]


@dataclass
class Bench:
    """Where a problem is run on a number of ranks.

    Parameters
    ----------
    problem : str
    ranks : int
    folder : path
        Of this test alone.

    Attributes
    ----------
    stuck : int
        How often mpiexec alone was left, see :meth:`Job.launcher_is_stuck`.
    """

    problem: str
    ranks: int
    folder: Path
    stuck: int = 0
    _whole: dict[int, Whole] = field(default_factory=dict)

    def job(self, folder: Path, *options: Any, ranks: int | None = None, log: str = "log") -> Job:
        return Job(self.problem, folder, *options, ranks=ranks or self.ranks,
                   log=self.folder / log)  # fmt: skip

    def whole(self, ranks: int | None = None) -> Whole:
        """Return the run to which nothing happens."""
        count = ranks or self.ranks
        if count not in self._whole:
            place = self.folder / f"whole-{count}"
            place.mkdir()
            start = time.monotonic()
            with self.job(place, ranks=count) as job:
                ended(job, 0, limit=PATIENCE)
                last = job.output.splitlines()[-1]
            seconds = time.monotonic() - start
            kept = rows(place / "state.npz")
            self._whole[count] = Whole(kept, last, seconds, files(place))
        return self._whole[count]

    def fresh(self) -> Path:
        """Return an empty folder for a state file."""
        place = self.folder / "run"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return place

    def resumed(self, place: Path) -> None:
        """Let a run continue to its end, which must be that of the whole run, bit for bit."""
        require_part(place / "state.npz", self.whole().rows)
        with self.job(place, "--pause", 0) as job:
            ended(job, 0, limit=PATIENCE)
            assert job.output.splitlines()[-1] == self.whole().end, "another end than the whole run"
        found, expected = rows(place / "state.npz"), self.whole().rows
        assert same(found, expected), "other rows than those of the whole run"
        left = files(place)
        assert left == self.whole().files, f"left behind: {left}"


class Hung(AssertionError):
    """A job did not end in time, or not with all of its processes."""

    def __init__(self, message: str, orphans: int) -> None:
        super().__init__(message)
        self.orphans = orphans


def ended(job: Job, code: int | None, limit: float = LIMIT) -> End:
    """Wait for the end of a job: in time, with all of its processes, and with this code.

    ``None`` is any code that says that something went wrong.
    """
    end = job.end(limit)
    text = job.output[-3000:]
    if end.code is None or end.orphans:
        raise Hung(f"{end.orphans} processes left after {limit:g} s\n{text}", end.orphans)
    if code is None:
        assert end.code != 0, f"ended as if nothing had happened\n{text}"
    else:
        assert end.code == code, f"code {end.code}, expected {code}\n{text}"
    return end


def rows(path: Path) -> Any:
    """Return what a state file says of a run, all of it compared with its checksums.

    One row an evaluation, or an iteration where the fields lie in a file beside it.
    """
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return arrays["history"] if "history" in arrays else arrays["evaluations"]


def same(a: Any, b: Any) -> bool:
    """Whether rows are the same to the last bit, but for clock and memory."""
    if a.dtype.names is None:
        a, b = (rows[:, : Iteration._fields.index("seconds")] for rows in (a, b))
        return bool(a.tobytes() == b.tobytes())
    names = ("point", "value", "gradient")
    return len(a) == len(b) and all(a[name].tobytes() == b[name].tobytes() for name in names)


def files(place: Path) -> list[str]:
    """Return the names of what a run has left: it writes fields into one of two files in turn."""
    return sorted(re.sub(r"\.[01]\.npy$", ".fields", path.name) for path in place.iterdir())


def require_part(path: Path, whole: Any) -> int:
    """Return how many rows a file has, which must be whole and the first of a run."""
    if not path.exists():
        return 0
    found = rows(path)
    assert same(found, whole[: len(found)]), f"{path.name}: other rows than the whole run's"
    return len(found)


def iterations(job: Job) -> int:
    return job.output.count("\niteration ") + job.output.startswith("iteration ")


def kill(bench: Bench, random: Random) -> float:
    """Kill one rank at any moment from the start of the job to its end."""
    number = random.randrange(bench.ranks)
    span = bench.whole().seconds
    while True:
        place, start = bench.fresh(), time.monotonic()
        moment = start + random.uniform(0.2, 1.0) * span
        with bench.job(place) as job:
            while time.monotonic() < moment and job.process.poll() is None:
                time.sleep(0.005)
            victim = job.victim(number)
            if victim is None:  # not there yet, or done: the machine is less busy than it was
                span = max(min(span, time.monotonic() - start), 2.0)
                continue
            victim.kill()
            end = job.end()
            stuck = job.launcher_is_stuck()
            if not stuck:
                ended(job, None)
        bench.resumed(place)
        if not stuck:
            return end.seconds
        bench.stuck += 1


def sent(target: str, number: signal.Signals, bench: Bench, random: Random) -> float:
    """Send a signal to a rank, or to mpiexec: the state is saved, and the code the usual one."""
    place = bench.fresh()
    if target == "worker":
        target = str(random.randrange(1, bench.ranks))
    with bench.job(place, "--pause", 0.3) as job:  # an mpiexec takes a second to pass it on
        job.wait_for(f"iteration {random.randrange(1, 6):5d}")
        time.sleep(random.uniform(0, 0.1))
        job.signal(target, number)
        # Open MPI's mpiexec, sent a signal itself, asks its ranks to end and returns 1.
        seconds = ended(job, None if target == "mpiexec" else 128 + number).seconds
        printed = iterations(job)
    kept = require_part(place / "state.npz", bench.whole().rows)
    assert kept >= printed, f"{printed} iterations were made, {kept} rows saved"
    bench.resumed(place)
    return seconds


def full_disk(bench: Bench, random: Random) -> float:
    """Let the disk be full in the middle of a run; with room again it goes on."""
    size = bench.whole().rows.nbytes
    with SmallDisk(bench.fresh(), random.randrange(size // 2, size)) as disk:
        with bench.job(disk.place, *disk.options) as job:
            job.wait_for("cannot be written: ")
            seconds = ended(job, 1).seconds
            assert disk.message in job.output
            assert iterations(job) > 0
        assert [path.name for path in disk.place.iterdir()] == ["state.npz"]
        assert require_part(disk.place / "state.npz", bench.whole().rows) > 0
        disk.enlarge()
        bench.resumed(disk.place)
    return seconds


def read_only(bench: Bench, random: Random) -> float:
    """Let the folder become unwritable in the middle of a run, and be so at the next start."""
    with SmallDisk(bench.fresh(), 2**24) as disk:
        with bench.job(disk.place, "--pause", 0.1) as job:
            job.wait_for(f"iteration {random.randrange(2, 6):5d}")
            disk.protect(True)
            seconds = ended(job, 1).seconds
            assert "cannot be written: " in job.output
        kept = (disk.place / "state.npz").read_bytes()
        with bench.job(disk.place) as job:
            job.wait_for("cannot be written: ")
            seconds = max(seconds, ended(job, 1).seconds)
            assert not iterations(job)
        assert (disk.place / "state.npz").read_bytes() == kept
        disk.protect(False)
        bench.resumed(disk.place)
    return seconds


def stopped(bench: Bench, random: Random) -> tuple[Path, float]:
    """Kill a run after some iterations; return its folder and the seconds it took to end."""
    place = bench.fresh()
    with bench.job(place, "--pause", 0.1) as job:
        job.wait_for(f"iteration {random.randrange(3, 8):5d}")
        job.signal(str(random.randrange(bench.ranks)), signal.SIGKILL)
        seconds = ended(job, None).seconds
    return place, seconds


def spoilt(how: str, bench: Bench, random: Random) -> float:
    """Put something else in the place of the state file: it is refused, and left as it is."""
    place, seconds = stopped(bench, random)
    state = place / "state.npz"
    content = state.read_bytes()
    message = "is damaged or not a state file"
    if how == "truncated":
        state.write_bytes(content[: random.randrange(len(content))])
    elif how == "pickle":
        state.write_bytes(pickle.dumps(dict(enumerate(content[:100]))))
    else:
        message = "has metadata['seed'] 1, expected 0"
        other = bench.folder / "other"
        other.mkdir(exist_ok=True)
        with bench.job(other, "--iterations", 1, "--seed", 1) as job:
            ended(job, 0, limit=PATIENCE)
        shutil.copy(other / "state.npz", state)
    found = state.read_bytes()
    with bench.job(place) as job:
        job.wait_for(message)
        seconds = max(seconds, ended(job, 1).seconds)
        assert not iterations(job)
    assert state.read_bytes() == found
    state.write_bytes(content)
    bench.resumed(place)
    return seconds


def other_ranks(bench: Bench, random: Random) -> float:
    """Continue on another number of ranks: the same values and gradients within the tolerance."""
    place, seconds = stopped(bench, random)
    ranks = 5 - bench.ranks  # three or two
    kept = require_part(place / "state.npz", bench.whole().rows)
    with bench.job(place, "--pause", 0, ranks=ranks) as job:
        ended(job, 0, limit=PATIENCE)
    found, expected = rows(place / "state.npz"), bench.whole().rows
    assert same(found[:kept], expected[:kept])
    assert len(found) > kept
    # The first that was computed by other ranks, at a point that does not depend on them.
    new, old = found[kept], expected[kept]
    tolerance = TOLERANCE[bench.problem]
    assert new["point"].tobytes() == old["point"].tobytes()
    assert abs(new["value"] - old["value"]) <= tolerance * expected["value"][0]
    apart = np.abs(new["gradient"] - old["gradient"]).max()
    scale = np.abs(expected["gradient"]).max()
    assert apart <= tolerance * scale, f"gradients differ by {apart / scale:.1e}"
    assert found["value"][-1] < 1.5 * expected["value"][-1]
    return seconds


#: What can be done to a run, by the name that the table has; each returns the seconds to the end.
CASES: dict[str, Callable[[Bench, Random], float]] = {
    "kill -9 of any rank": kill,
    **{
        f"{number.name} to {name}": partial(sent, target, number)
        for number in (signal.SIGTERM, signal.SIGINT)
        for target, name in (("0", "rank 0"), ("worker", "another rank"), ("mpiexec", "mpiexec"))
    },
    "full disk": full_disk,
    "unwritable folder": read_only,
    "truncated state file": partial(spoilt, "truncated"),
    "state file of another run": partial(spoilt, "another run"),
    "pickled state file": partial(spoilt, "pickle"),
    "another number of ranks": other_ranks,
}

#: What looks at single evaluations, or at a state that is one file. Of distributed fields, a full
#: disk and other ranks are tested in `tests/mpi/test_minimize_field.py`.
OF_EVALUATIONS = ("full disk", "unwritable folder", "another number of ranks")


def cases_of(problem: str) -> list[str]:
    """Return the names of what can be done to a problem's run."""
    return [name for name in CASES if problem != "field" or name not in OF_EVALUATIONS]
