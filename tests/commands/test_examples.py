"""The list of the example programs, and the copies of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from adjoint.commands import main
from adjoint.commands.examples import FOLDER, copy_example, examples, needed
from tests.jobs import ROOT, environment


def test_every_program_is_listed_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["examples"]) == 0
    listed = capsys.readouterr().out
    programs = {
        path.stem
        for path in (ROOT / "examples").glob("*.py")
        if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
    }
    assert set(examples()) == programs > {"polynomial", "poisson_inversion"}
    for name, line in examples().items():
        assert line.endswith((".", "?"))
        assert f"{name} " in listed
        assert line in listed


def test_a_copy_runs_alone(tmp_path: Path) -> None:
    """It finds the modules that it imports beside it, and no others of the examples."""
    name = max(examples(), key=lambda name: len(needed(name)))
    text = copy_example(name, tmp_path)
    assert str(tmp_path / f"{name}.py") in text
    code = (
        f"import sys; sys.path[0] = {str(tmp_path)!r}; import {name}\n"
        f"beside = [m for m in sys.modules.values() if (getattr(m, '__file__', None) or '')"
        f".startswith({str(tmp_path)!r})]\n"
        "print(*sorted(m.__name__ for m in beside))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True,
        text=True, timeout=50, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == sorted(path.stem for path in tmp_path.glob("*.py"))


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    source = (
        "import numpy, zoology.animals\nif __name__ == '__main__':\n    from oddities import x\n"
    )
    (tmp_path / "program.py").write_text(source)
    text = copy_example("program", tmp_path / "new", tmp_path)
    assert text.splitlines()[1] == "First: pip install oddities zoology"
    assert "First:" not in copy_example("polynomial", tmp_path / "new")


def test_modules_are_followed_however_they_are_imported(tmp_path: Path) -> None:
    sources = {
        "program": '"""Do it."""\nfrom first import x\nif __name__ == "__main__":\n    pass\n',
        "first": "def f():\n    import second\n",
        "second": "import first, numpy\n",
        "other": "import program\n",
    }
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source)
    assert examples(tmp_path) == {"program": "Do it."}
    assert [path.stem for path in needed("program.py", tmp_path)] == ["program", "first", "second"]


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["examples", "polynomial", "--to", str(tmp_path / "new")]
    assert main(arguments) == 0
    assert main(arguments) == 0  # the same once more
    program, module = (tmp_path / "new" / name for name in ("polynomial.py", "command_line.py"))
    assert program.read_bytes() == (FOLDER / "polynomial.py").read_bytes()
    program.unlink()
    module.write_text("mine")
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "command_line.py is there and differs" in capsys.readouterr().err
    assert module.read_text() == "mine"
    assert not program.exists()


def test_an_unknown_example_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["examples", "heat"])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "there is no example 'heat'; there are " in error
    assert "polynomial" in error
