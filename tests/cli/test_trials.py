"""Options that say where the trainings of a search run: a wrong one is one line, in every command that has it."""

import pytest

from tests.cli.test_cli import one_line


@pytest.mark.parametrize("verb", [("run", "--out"), ("resume",)], ids=lambda words: words[0])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--workers", "0"),
        ("--trials-per-gpu", "0"),
        ("--trials-per-gpu", "1.5"),
        ("--cpus-per-trial", "nan"),
        ("--gpus-per-trial", "-1"),
        ("--device", "warp"),
    ],
    ids=str,
)
def test_a_wrong_value_is_one_line(run, tmp_path, verb, option, value):
    one_line(
        run("search", *verb, tmp_path / "run", option, value),
        "no search in" if option == "--device" and len(verb) == 1 else option,
    )
    assert not (tmp_path / "run").exists()


def test_budgets_and_verify_have_them_too(run, tmp_path):
    budgets = ("search", "budgets", tmp_path, "--max-flops", "1M", "--train")
    one_line(run(*budgets, "--trials-per-gpu", "0"), "--trials-per-gpu")
    one_line(run("search", "verify", tmp_path, "--device", ""), "--device is empty")
