"""Reports of runs: the log over interruptions, and a page that needs nothing but itself."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adjoint import spans
from adjoint.optimize import Iteration, minimize, read_configuration
from examples.run_report import COLUMNS, Report

ABOUT = """Find <b>something</b> & more.

    mpiexec -n 2 python -m mpi4py example.py

What it does, over
two lines.
"""


def options(out: Path, **more: Any) -> argparse.Namespace:
    return argparse.Namespace(out=out, seed=3, bands=[1.0, 2.0], model=None, resume=False, **more)


def bowl(theta: Any) -> Any:
    return ((theta - np.arange(3.0)) ** 2 * np.array([1.0, 10.0, 100.0])).sum()


def run(out: Path, iterations: int, resume: bool = False, fail: int | None = None) -> Any:
    """Run an inversion of two stages, of which one may fail after so many iterations."""
    with Report(options(out), ABOUT) as report:
        stages = []
        theta = np.zeros(3)
        for stage, name in enumerate(("coarse", "fine"), 1):
            report.stage(name)

            def callback(iteration: Iteration, theta: Any, stage: int = stage) -> None:
                report.iteration(iteration, theta)
                if stage == 2 and iteration.iteration == fail:
                    raise ArithmeticError("out of <luck>")

            result = minimize(
                bowl, theta, "CG", options={"maxiter": iterations}, callback=callback, every=2,
                state=out / f"state-{stage}.npz", resume=resume, metadata=report.metadata(seed=3),
                progress=False,
            )  # fmt: skip
            theta = result.theta + 1.0
            stages.append((name, result))
        report.finish(stages, {"none.png": "not there"}, {"error": "0 < 1 %"})
        report.tell("result.npz")
    return stages


def log(out: Path) -> list[tuple[int, int]]:
    """Return stage and iteration of each line of a log."""
    header, *lines = (out / "log.csv").read_text().splitlines()
    assert header == ",".join(COLUMNS)
    assert all(line.count(",") == header.count(",") for line in lines)
    return [(int(a), int(b)) for a, b in (line.split(",")[:2] for line in lines)]


class Reader(HTMLParser):
    """Collects what a browser would fetch, the text, and whether elements are closed in turn."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.feed(path.read_text())
        assert not self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.add(tag)
        self.fetched += [value for name, value in attributes if name in ("src", "href", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_finished_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages = run(tmp_path, 4)
    told = {line[:14].strip(): line[15:] for line in capsys.readouterr().out.splitlines()}
    count = sum(result.iterations for _, result in stages)
    assert re.fullmatch(rf"{count} \(\d+ evaluations\), \d+\.\d s", told["iterations"])
    first, last = stages[0][1].history[0].loss, stages[1][1].value
    assert told["misfit"] == f"{first:.3e} → {last:.3e}"
    assert told["error"] == "0 < 1 %"
    assert told["figures"] == f"{tmp_path / 'none.png'}, {tmp_path / 'loss.png'}"
    assert told["results"] == f"{tmp_path / 'result.npz'}, {tmp_path / 'log.csv'}"
    assert spans.active is None
    assert log(tmp_path) == [(i, n) for i in (1, 2) for n in range(len(stages[i - 1][1].history))]
    page = Reader(tmp_path / "report.html")
    assert page.fetched
    assert all(url.startswith("data:image/png;base64,") for url in page.fetched)
    assert "script" not in page.tags
    assert "b" not in page.tags  # the title's was text
    for words in ("Find <b>something</b> & more.", "What it does, over two lines.", "finished",
                  f"misfit {told['misfit']}", "error 0 < 1 %", "seed 3", "bands 1.0, 2.0",
                  "model –", "resume no", "Subtract", "numpy", "1 rank"):  # fmt: skip
        assert words in page.text, words
    assert "example.py" not in page.text  # the docstring's command; the run's own is shown
    assert "url(" not in (tmp_path / "report.html").read_text()
    configuration = json.loads((tmp_path / "configuration.json").read_text())
    assert configuration["settings"]["bands"] == [1.0, 2.0]
    assert configuration["ranks"] == 1
    assert configuration["versions"]["numpy"] == np.__version__
    assert not [*tmp_path.glob("*.tmp")]


def test_an_exception_leaves_what_there_is_and_the_next_run_goes_on(tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError):
        run(tmp_path, 6, fail=3)
    first = len(log(tmp_path)) - 4
    assert log(tmp_path)[first:] == [(2, n) for n in range(4)]
    page = Reader(tmp_path / "report.html")
    assert "stopped by ArithmeticError: out of <luck>, 1 rank" in page.text
    assert "Of rank 0 alone." in page.text
    assert [url[:22] for url in page.fetched] == ["data:image/png;base64,"]

    # As if it had been killed in the middle of a line, after iterations that no state knows of.
    with open(tmp_path / "log.csv", "a") as file:
        file.write("2,4,0.5,0.5,0.5,0.5,1.0\n2,5,0.")
    stages = run(tmp_path, 6, resume=True)
    assert log(tmp_path) == [(i, n) for i in (1, 2) for n in range(len(stages[i - 1][1].history))]
    assert "finished" in Reader(tmp_path / "report.html").text


def test_the_log_of_a_run_that_goes_on_has_no_line_twice(tmp_path: Path) -> None:
    lines = [[1, n, *[0.1] * 5] for n in range(4)] + [[2, n, *[0.1] * 5] for n in range(7)]
    text = "\n".join([",".join(COLUMNS), *(",".join(map(str, line)) for line in lines)])
    (tmp_path / "log.csv").write_text(text + "\n2,7,0.1,half")
    with Report(options(tmp_path), ABOUT) as report:
        report.stage("coarse")
        report.stage("fine")  # all of the first stage was replayed
        report.iteration(Iteration(5, 0.2, 0.2, 0.2, 0.2, 1e6))
        assert log(tmp_path) == [*((1, n) for n in range(4)), *((2, n) for n in range(6))]
        report.iteration(Iteration(6, 0.2, 0.2, 0.2, 0.2, 1e6))
    assert log(tmp_path)[-2:] == [(2, 5), (2, 6)]
    with Report(options(tmp_path), ABOUT) as report:  # from the start
        report.iteration(Iteration(0, 1.0, 1.0, 0.0, 0.0, 1e6))
    assert log(tmp_path) == [(1, 0)]


def test_a_long_run_reports_now_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("examples.run_report.time.monotonic", lambda: clock[0])
    with Report(options(tmp_path), ABOUT) as report:
        report.iteration(Iteration(0, 1.0, 1.0, 0.0, 0.0, 1e6))
        assert not (tmp_path / "report.html").exists()
        clock[0] = 6.0
        report.iteration(Iteration(1, 0.5, 1.0, 0.0, 0.0, 1e6))
        assert "running: iteration 1, 1 rank" in Reader(tmp_path / "report.html").text
        assert "running" in (tmp_path / "report.html").read_text().split("</title>")[0]


def test_nothing_is_written_before_the_first_iteration(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="before"), Report(options(tmp_path), ABOUT):
        raise ValueError("before")
    assert not [*tmp_path.iterdir()]
    with pytest.raises(NotADirectoryError, match="there is no such folder"):
        Report(options(tmp_path, trace=tmp_path / "none" / "t.json"), ABOUT).__enter__()


def test_a_state_file_begins_with_the_configuration(tmp_path: Path) -> None:
    run(tmp_path, 2)
    with np.load(tmp_path / "state-1.npz", allow_pickle=False) as archive:
        assert archive.files[0] == "configuration"
    found = read_configuration(tmp_path / "state-1.npz")["metadata"]
    assert found["seed"] == 3
    assert found["_run"] == json.loads((tmp_path / "configuration.json").read_text())


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)


@pytest.mark.skipif(
    not BROWSER, reason="no browser here: apt install chromium lets one read a page"
)
@pytest.mark.parametrize("width", [1200, 500])  # a desktop's, and the least that it takes
def test_a_browser_shows_all_figures_within_its_width(width: int, tmp_path: Path) -> None:
    run(tmp_path, 3)
    page = (tmp_path / "report.html").read_text()
    asked = """<script>addEventListener("load", () => document.title = JSON.stringify({
        images: [...document.images].map(image => [image.naturalWidth, image.clientWidth]),
        width: document.documentElement.scrollWidth, window: innerWidth,
        requests: performance.getEntriesByType("resource").map(entry => entry.name.slice(0, 5)),
        color: getComputedStyle(document.body).color}))</script></body>"""
    (tmp_path / "asked.html").write_text(page.replace("</body>", asked))
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
         f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900",
         (tmp_path / "asked.html").as_uri()],
        capture_output=True, text=True, check=True, timeout=50,
    )  # fmt: skip
    titles = re.findall(r"<title>(\{.*?\})</title>", done.stdout)
    found = json.loads(titles[0])
    assert found["window"] == width
    assert found["images"]
    assert all(0 < shown <= min(natural, width) for natural, shown in found["images"])
    assert found["width"] <= width
    assert {*found["requests"]} <= {"data:"}
    assert found["color"] == "rgb(26, 26, 26)"
