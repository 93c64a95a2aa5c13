"""What the tests of the search share."""

import pytest

from fbnetv3.pages import plots
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.sessions import run_search
from tests.search.images import fashion_config
from tests.search.scripted import Scripted


@pytest.fixture(scope="session")
def scripted_search(tmp_path_factory):
    """Configuration, folder and results of a search with a baseline and scripted trainings. Copy the folder to change it."""
    folder = tmp_path_factory.mktemp("scripted")
    cfg = fashion_config(folder, pool=128, batch=6, baseline=True, final_training=False)
    return cfg, folder / "run", search_without_drawing(cfg, folder / "run", Scripted())


@pytest.fixture(scope="session")
def trained_search(tmp_path_factory):
    """Configuration, folder and results of a search with a baseline and real trainings. Copy the folder to change it."""
    folder = tmp_path_factory.mktemp("trained")
    cfg = fashion_config(folder, baseline=True)
    return cfg, folder / "run", search_without_drawing(cfg, folder / "run")


def search_without_drawing(cfg, folder, evaluator=None):
    """Run a search in this process. Its plots are not rendered, which would take as long as the search."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "png_of", lambda figure: b"a PNG")
        return run_search(cfg, folder, evaluator=evaluator, executor=ExecutorSettings(workers=1))
