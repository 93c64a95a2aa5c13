"""`search audit` as a user meets it."""

import json


def test_audit_of_table_2(run):
    code, text, _ = run("search", "audit", "table2")
    assert code == 0
    assert "1.76e+17 without the choice of resolution (7)" in text
    assert "260 times fewer" in text
    line = next(line for line in text.splitlines() if "fbnetv3_d" in line and "row6.c" in line)
    assert [cell.strip() for cell in line.split("│")[1:-1]] == ["fbnetv3_d", "row6.c", "240", "(180, 224, 4)", "-"]
    line = next(line for line in text.splitlines() if "fbnetv3_c" in line and "row3.c" in line)
    assert "84 is built as this" in line


def test_audit_as_json(run):
    code, text, _ = run("search", "audit", "released", "--json")
    data = json.loads(text)
    assert code == 0
    assert [network["contained"] for network in data["networks"]] == [True] * 5 + [False] * 2
    assert data["recipes"] == 9_452_520


def test_an_unknown_space_is_refused(run):
    code, _, err = run("search", "audit", "nano")
    assert code == 2
    assert err.startswith(
        "fbnetv3: unknown search space 'nano'; available: cifar, micro, recipe_only, released, table2"
    )
    assert len(err.splitlines()) == 1
