"""The table of trials: what it shows without its script, and what the script does, in a page that is as small as can be."""

import dataclasses
import json
import shutil
import subprocess

import pytest

from fbnetv3.search.report.ranking import Belief
from fbnetv3.search.report.trials_page import script, script_hash, trials_section
from tests.search.made_up import Page, diverged, failed, make_config, make_result, make_trials

CONFIG = make_config()


@pytest.fixture
def trials(space):
    """After 2 epochs: 61, 60, 64, 63 and 65% in every round; the last one of round 2 diverged, that before it failed."""
    trials = make_trials(CONFIG, space, 2)
    trials[8], trials[9] = failed(trials[8], "OSError: <disk> full"), diverged(trials[9])
    return trials


@pytest.fixture
def section(space, trials):
    """A function that returns the part of the page as it is written and as it is read."""

    def make(beliefs=None, results=None):
        text = trials_section(CONFIG, space, results or [make_result(CONFIG, space, trials)], beliefs or {})
        return text, Page(text)

    return make


def rows(page):
    """The rows of trials, without the opened ones."""
    return [row for row in page.rows[1:] if len(row) > 1]


def test_the_most_accurate_trial_is_first_and_those_without_accuracy_are_last(section):
    page = section()[1]
    assert page.rows[0] == [
        "trial",
        "round",
        "accuracy",
        "predicted before",
        "FLOPs",
        "parameters",
        "epochs",
        "seconds",
        "ended",
    ]
    assert [row[0] for row in rows(page)] == ["1.4", "1.2", "2.2", "1.3", "1.0", "2.0", "1.1", "2.1", "2.3", "2.4"]
    assert [row[2] for row in rows(page)[:2]] == ["65.00%", "64.00%"]
    assert [(row[2], row[-1]) for row in rows(page)[-2:]] == [("-", "failed"), ("-", "diverged")]


def test_a_prediction_has_its_interval(section, trials):
    trials[7] = dataclasses.replace(trials[7], predicted=[62.0, 2.0])
    by_name = {row[0]: row for row in rows(section()[1])}
    assert by_name["2.2"][3] == "62.0 (58.7 to 65.3)"  # 1.645 deviations on either side
    assert by_name["1.0"][3] == "-"


def test_a_belief_has_a_column_of_its_own(section):
    _, page = section({(1, 4): Belief(64.0, 63.0, 65.5, 0.4, 1.0)})
    assert page.rows[0][4] == "believed"
    assert {row[0]: row[4] for row in rows(page)}["1.4"] == "64.0 (63.0 to 65.5)"
    assert {row[0]: row[4] for row in rows(page)}["2.0"] == "-"
    assert "what it believes of the candidate after all trainings" in page.words


def test_an_opened_trial_shows_results_before_values(section, space, trials):
    text, page = section()
    opened = next(row[0] for row in page.rows if len(row) == 1 and "90.00" in row[0])  # 1.0, after three epochs
    assert opened.startswith("valuesAccuracy after every epoch 50.00, 61.00, 90.00Recipe lr ")
    assert opened.index("Recipe") < opened.index("Architecture")
    assert f"stem.c {space.values(trials[0].candidate)['stem.c']}" in opened
    assert "Error OSError: <disk> full" in page.text
    assert text.count("<details>") == 10  # a browser opens these without the script


def test_the_answer_is_marked_and_methods_are_told_apart(section, space, trials):
    good = make_trials(CONFIG, space, 2)
    results = [make_result(CONFIG, space, good), make_result(CONFIG, space, good, "random")]
    text, page = section(results=results)
    assert text.count('<tbody class="marked"') == 2  # the last trial, of each method
    assert page.rows[0][:2] == ["trial", "method"]
    assert {row[1] for row in rows(page)} == {"NARS", "random search"}


def test_the_filter_knows_every_coordinate(section, space):
    text = section()[0]
    assert "&quot;mixup&quot;" in text
    assert "&quot;ended&quot;: &quot;diverged&quot;" in text


def test_the_page_allows_the_script_by_its_hash():
    assert script_hash().startswith("sha256-")
    assert "</" not in script()  # would end it


NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node runs the script of the page; it is not installed")
# As much of a browser as the script uses.
BROWSER = """
class Node {
  constructor(tag) {
    Object.assign(this, {tag, children: [], dataset: {}, attributes: {}, hidden: false, open: false, text: "", value: ""});
  }
  get textContent() { return this.text + this.children.map((one) => one.textContent).join(" "); }
  set textContent(text) { this.text = text; this.children = []; }
  append(...nodes) { for (const n of nodes) { this.children = this.children.filter((o) => o !== n); this.children.push(n); } }
  replaceChildren(...nodes) { this.text = ""; this.children = nodes; }
  before(node) { this.previous = node; }
  setAttribute(name, value) { this.attributes[name] = value; }
  getAttribute(name) { return this.attributes[name]; }
  removeAttribute(name) { delete this.attributes[name]; }
  querySelector(tag) { return this.children[0].children[0]; }
  get cells() { return this.children; }
  get rows() { return this.children; }
  get tBodies() { return this.children.filter((one) => one.tag === "tbody"); }
  get tHead() { return this.children.find((one) => one.tag === "thead"); }
}
function node(tag, children = [], text = "", v = undefined) {
  const made = new Node(tag);
  made.children = children;
  made.text = text;
  if (v !== undefined) made.dataset.v = v;
  return made;
}
const TRIALS = [["1.0", "61", "ok", 0.1], ["1.1", "", "diverged", 0.2], ["1.2", "100", "ok", 0.05]];
const body = TRIALS.map(([name, accuracy, ended, lr]) => {
  const cells = [node("td", [], name, name), node("td", [], accuracy, accuracy), node("td", [], ended, ended)];
  const made = node("tbody", [node("tr", cells), node("tr", [node("td", [node("details", [], "kernel five")])])]);
  made.dataset.values = JSON.stringify({accuracy: accuracy === "" ? null : Number(accuracy), ended, lr});
  return made;
});
const heads = ["trial", "accuracy", "ended"].map((text) => node("th", [], text));
const table = node("table", [node("thead", [node("tr", heads)]), ...body]);
table.parentNode = node("div");
globalThis.document = {createElement: (tag) => new Node(tag), getElementById: () => table};
const names = () => table.tBodies.filter((one) => !one.hidden).map((one) => one.rows[0].cells[0].textContent);
"""


def in_browser(code):
    """Run the script in the small browser, and then some code; return what that says."""
    whole = BROWSER + script() + f"\nconst said = [];\n{code}\nconsole.log(JSON.stringify(said));"
    done = subprocess.run([NODE, "-e", whole], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


@needs_node
def test_a_column_is_sorted_down_then_up_and_trials_without_a_value_stay_last():
    code = "for (let i = 0; i < 2; i++) { heads[1].children[0].onclick(); said.push([names(), {...heads[1].attributes}]); }"
    assert in_browser(code) == [
        [["1.2", "1.0", "1.1"], {"aria-sort": "descending"}],
        [["1.0", "1.2", "1.1"], {"aria-sort": "ascending"}],
    ]


@needs_node
def test_another_column_takes_the_mark_of_the_order():
    code = "heads[1].children[0].onclick(); heads[2].children[0].onclick(); said.push(heads.map((h) => h.attributes), names());"
    assert in_browser(code) == [[{}, {}, {"aria-sort": "descending"}], ["1.2", "1.0", "1.1"]]


@needs_node
@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("", ["1.0", "1.1", "1.2"]),
        ("diverged", ["1.1"]),
        ("accuracy>=61", ["1.0", "1.2"]),
        ("accuracy>61", ["1.2"]),
        ("accuracy<100", ["1.0"]),  # one without an accuracy is in no comparison
        ("LR=0.10", ["1.0"]),
        ("ended=ok lr<0.1", ["1.2"]),
        ("Kernel five 1.2", ["1.2"]),  # what an opened trial shows counts too
        ("nothing=1", []),
    ],
)
def test_the_filter_leaves_trials_that_have_all_words(query, left):
    code = f"const field = table.parentNode.previous.children[0]; field.value = {json.dumps(query)}; field.oninput();"
    assert in_browser(code + "said.push(names(), table.parentNode.previous.children[1].textContent.trim());") == [
        left,
        f"{len(left)} of 3",
    ]


@needs_node
def test_a_trial_is_opened_and_closed():
    code = """
    const [row, more] = table.tBodies[1].rows, button = row.cells[0].children[0];
    const say = () => said.push([more.hidden, more.children[0].children[0].open, button.attributes["aria-expanded"]]);
    say(); button.onclick(); say(); button.onclick(); say();
    """
    assert in_browser(code) == [[True, False, "false"], [False, True, "true"], [True, False, "false"]]
