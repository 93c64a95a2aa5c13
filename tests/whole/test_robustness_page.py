"""docs/robustness.md: every row of its tables names a test that exists."""

import re

from tests.places import ROOT

PAGE = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.partition("## Counts")[0].splitlines() if line.startswith("| ") and line[:6] != "| kind"]
NAME = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def missing(row):
    """Return the tests that a row names and that do not exist; a row without any is itself returned."""
    named = NAME.findall(row)
    lost = [(file, test) for file, test in named if not defined(file, test)]
    return lost if named else [row]


def defined(file, test):
    path = ROOT / file
    return path.is_file() and (not test or f"def {test}(" in path.read_text(encoding="utf-8"))


def test_every_row_names_tests_that_exist():
    assert len(ROWS) > 190
    assert [lost for row in ROWS for lost in missing(row)] == []


def test_a_row_without_a_test_and_a_test_that_is_not_there_are_found():
    assert missing("| kind | input | outcome | none |") == ["| kind | input | outcome | none |"]
    assert missing("| a | b | c | `tests/test_files.py::test_of_nothing` |") == [
        ("tests/test_files.py", "test_of_nothing")
    ]
