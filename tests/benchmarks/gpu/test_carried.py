"""Only wheels of packages that are missing are installed, without network and what they depend on."""

import zipfile

import pytest

from fbnetv3.benchmarks.gpu import carried
from fbnetv3.benchmarks.gpu.carried import install, lacking_packages, missing_wheels


def wheel(folder, name):
    """A wheel with one module, that says it depends on something that does not exist."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}.py", "ANSWER = 42\n")
        file.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: no-such-thing\n"
        )
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return path


def test_a_package_that_is_there_is_not_replaced(tmp_path):
    here, missing = wheel(tmp_path, "numpy"), wheel(tmp_path, "not_here_at_all")
    assert missing_wheels([missing, here]) == [missing]
    assert missing_wheels([]) == []


@pytest.mark.parametrize(("found", "missing"), [("0.9.5", True), ("0.28", False), ("0.28.0", False), ("1.0", False)])
def test_a_package_that_is_too_old_is_replaced(tmp_path, monkeypatch, found, missing):
    (tmp_path / "pyproject.toml").write_text('    "typer>=0.28",\n    "not-here>=1",\n')
    monkeypatch.setattr(carried, "PROJECT", tmp_path / "pyproject.toml")
    monkeypatch.setattr(carried, "version", lambda package: found)
    file = wheel(tmp_path, "typer")
    assert missing_wheels([file]) == [file] * missing


def test_what_neither_the_machine_nor_the_wheels_have_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(carried, "version", lambda package: "0" if package in ("pydantic", "typer", "pytest") else "99")
    # An optional package such as pytest is none that every part needs.
    assert lacking_packages([]) == ["pydantic", "typer"]
    assert lacking_packages([wheel(tmp_path, "typer")]) == ["pydantic"]


def test_the_least_versions_are_those_of_the_project(tmp_path, monkeypatch):
    monkeypatch.setattr(carried, "version", lambda package: "0")
    files = [wheel(tmp_path, name) for name in ("typer", "pytest_xdist", "portalocker")]
    assert missing_wheels(files) == sorted(files[:2])  # this project says nothing of portalocker


def test_a_wheel_is_installed_alone(tmp_path):
    install([wheel(tmp_path, "not_here_at_all")], tmp_path / "site")
    assert (tmp_path / "site" / "not_here_at_all.py").read_text() == "ANSWER = 42\n"
