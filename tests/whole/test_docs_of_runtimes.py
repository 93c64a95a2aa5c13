"""The page about inference: its Python blocks run with the runtimes that are installed."""

import pytest

from tests.whole.test_docs import RUNTIMES_PAGE, run_python_blocks


@pytest.mark.filterwarnings("ignore::fbnetv3.errors.Note")
def test_every_python_block_of_the_page_runs(tmp_path, monkeypatch, untrained_weights):
    monkeypatch.chdir(tmp_path)
    run_python_blocks(RUNTIMES_PAGE, tmp_path)
