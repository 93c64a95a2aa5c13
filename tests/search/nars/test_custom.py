"""A custom evaluator: its name, what is refused, and that a search goes on with the same one."""

import dataclasses
import sys

import pytest

from fbnetv3 import InputError
from fbnetv3.search.nars.config import Contents, load_preset
from fbnetv3.search.nars.custom import check_evaluator, evaluator_name, evaluator_of, import_evaluator, with_evaluator
from fbnetv3.search.trial import Outcome
from tests.search.scripted import Scripted, Stoppable

CONFIG = load_preset("quickstart")
NAME = "tests.search.nars.test_custom:answer"


def answer(candidate, epochs, seed):
    return Outcome((50.0,) * epochs, "ok", 0.0)


def other(candidate, epochs, seed):
    return answer(candidate, epochs, seed)


def stopped(candidate, epochs, seed, *, stop=None):
    return answer(candidate, epochs, seed)


def short(candidate):
    return answer(candidate, 1, 0)


def demanding(candidate, epochs, seed, images):
    return answer(candidate, epochs, seed)


THING = Scripted()


def test_a_name_is_the_place_of_the_function_or_of_the_class_of_an_object():
    assert evaluator_name(answer) == NAME
    assert evaluator_name(Scripted()) == "tests.search.scripted:Scripted"


def test_a_function_of_a_script_is_named_by_the_file(monkeypatch):
    monkeypatch.setattr(answer, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "/somewhere/my_search.py", raising=False)
    assert evaluator_name(answer) == "my_search:answer"


def test_a_name_leads_to_the_function_or_to_an_object_that_can_be_called():
    assert import_evaluator(NAME) is answer
    assert import_evaluator("tests.search.nars.test_custom:THING") is THING


def test_modules_of_the_current_folder_are_found(tmp_path, monkeypatch):
    (tmp_path / "found_here.py").write_text("def f(candidate, epochs, seed):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    assert evaluator_name(import_evaluator("found_here:f")) == "found_here:f"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("my_search", "the evaluator is 'my_search'; give MODULE:FUNCTION, such as my_search:evaluate"),
        (":f", "give MODULE:FUNCTION"),
        ("absent_module:f", r"cannot be imported \(ModuleNotFoundError: No module named 'absent_module'\)"),
        ("tests.search.nars.test_custom:absent", r"cannot be imported \(AttributeError: .*'absent'\)"),
        ("tests.search.nars.test_custom:NAME", "is a str; give a function"),
        ("tests.search.scripted:Scripted", "is a class; give a function"),
        (
            "tests.search.nars.test_custom:short",
            r"cannot be called with \(candidate, epochs, seed\): too many positional",
        ),
        (
            "tests.search.nars.test_custom:demanding",
            r"missing a required argument: 'images'; define it as `def evaluate",
        ),
    ],
    ids=str,
)
def test_what_is_no_evaluator_is_refused(name, words):
    with pytest.raises(InputError, match=words):
        import_evaluator(name)


def test_a_module_that_fails_is_one_error(tmp_path, monkeypatch):
    (tmp_path / "broken_here.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"broken_here:f cannot be imported \(ZeroDivisionError: division by zero\)"):
        import_evaluator("broken_here:f")


def test_an_evaluator_may_take_stop():
    for evaluator in (stopped, Stoppable()):
        check_evaluator(evaluator, "mine")


def test_the_name_is_part_of_the_settings():
    named, evaluator = with_evaluator(CONFIG, answer)
    assert (named.evaluator, evaluator) == (NAME, answer)
    assert with_evaluator(named, None) == (named, answer)
    assert with_evaluator(CONFIG, None) == (CONFIG, None)
    assert named.fingerprint != CONFIG.fingerprint
    with pytest.raises(InputError, match=r"one with the evaluator .*:answer, and .*:other is another; give that one"):
        with_evaluator(named, other)


def test_a_search_goes_on_with_its_own_evaluator_alone():
    named = CONFIG.replace(evaluator=NAME)
    assert evaluator_of(named, None) is answer
    assert evaluator_of(CONFIG, None) is None
    with pytest.raises(InputError, match="is another; give that one"):
        evaluator_of(named, other)
    trained = dataclasses.replace(CONFIG, contents=Contents("a", "b", data="images"))
    with pytest.raises(InputError, match="the search trains on images, and not with the evaluator"):
        evaluator_of(trained, answer)


def test_an_evaluator_that_an_earlier_version_did_not_name_is_taken():
    assert evaluator_of(dataclasses.replace(CONFIG, contents=Contents("a", "b")), answer) is answer
