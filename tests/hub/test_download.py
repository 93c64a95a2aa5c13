"""Downloads: complete, the same as at their first use, and nothing is left of a failed one."""

import hashlib
import random

import pytest

from fbnetv3 import InputError
from fbnetv3.hub import download
from fbnetv3.hub.download import cache_path, check_hash, fetch, recorded_hash
from tests.hub.conftest import slow, truncated

CONTENT = random.Random(0).randbytes(3_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def get(url, **kwargs):
    return fetch(url, cache_path(url), progress=False, **kwargs)


def nothing_kept(cache):
    return not cache.exists() or list(cache.iterdir()) == []


def test_a_file_is_fetched_once_and_its_hash_recorded(server, cache):
    url = server.put("model.pth", CONTENT)
    path = get(url)
    assert path.read_bytes() == CONTENT
    assert path.parent == cache
    assert recorded_hash(path) == DIGEST
    assert (cache / f"{path.name}.sha256").read_text() == f"{DIGEST}  {path.name}\n"
    assert get(url) == path
    assert server.hits == ["/model.pth"]
    assert {p.name for p in cache.iterdir()} == {path.name, f"{path.name}.sha256"}


def test_two_urls_of_one_name_are_two_files(server):
    first, second = server.put("a/model.pth", b"first"), server.put("b/model.pth", b"second")
    assert get(first).read_bytes() == b"first"
    assert get(second).read_bytes() == b"second"


def test_a_cut_off_download_is_not_kept(server, cache):
    url = server.put("model.pth", truncated(CONTENT))
    with pytest.raises(InputError, match=r"ended after 1500000 of 3000000 bytes.*save it as") as error:
        get(url)
    assert url in str(error.value)
    assert str(cache_path(url)) in str(error.value)
    assert nothing_kept(cache)
    server.put("model.pth", CONTENT)
    assert get(url).read_bytes() == CONTENT


@pytest.mark.parametrize("published", [DIGEST, DIGEST[:8]])
def test_the_published_hash_is_checked(server, cache, published):
    url = server.put("model.pth", b"something else")
    with pytest.raises(InputError, match=f"published: {published}.*the download was not kept"):
        get(url, sha256=published)
    assert nothing_kept(cache)
    server.put("model.pth", CONTENT)
    assert get(url, sha256=published).read_bytes() == CONTENT


def test_a_file_that_changes_on_disk_is_refused(server):
    url = server.put("model.pth", CONTENT)
    path = get(url)
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(InputError, match=r"recorded at first use.*delete it to download it again"):
        get(url)
    path.unlink()
    assert get(url).read_bytes() == CONTENT


def test_a_file_that_changes_on_the_server_is_refused(server, cache):
    url = server.put("model.pth", CONTENT)
    path = get(url)
    path.unlink()
    server.put("model.pth", b"another")
    with pytest.raises(InputError, match=rf"recorded at first use: {DIGEST}.*not kept.*{path.name}.sha256"):
        get(url)
    assert not path.exists()


def test_a_file_put_there_by_hand_is_trusted_once(server, cache):
    url = server.url("model.pth")
    path = cache_path(url)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"by hand")
    assert get(url) == path
    assert server.hits == []
    path.write_bytes(b"replaced")
    with pytest.raises(InputError, match="recorded at first use"):
        check_hash(path)


def test_not_found_and_no_network_say_what_to_do(server, cache):
    with pytest.raises(InputError, match="the server answers 404 Not Found"):
        get(server.url("absent.pth"))
    url = "http://127.0.0.1:9/model.pth"
    with pytest.raises(InputError, match=r"cannot download http://127.0.0.1:9/model.pth") as error:
        get(url)
    assert f"download it elsewhere and save it as {cache_path(url)}" in str(error.value)
    assert nothing_kept(cache)
    with pytest.raises(InputError, match="unknown url type"):
        get("nonsense://model.pth")


def test_a_slow_server_is_waited_for_and_a_silent_one_is_not(server, cache, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    assert get(server.put("slow.pth", slow(CONTENT, 0.2))).read_bytes() == CONTENT
    with pytest.raises(InputError, match="timed out"):
        get(server.put("silent.pth", slow(CONTENT, 1.5)))
    assert len(list(cache.iterdir())) == 2


def test_an_interrupted_download_leaves_nothing(server, cache, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_receive", stop)
    with pytest.raises(KeyboardInterrupt):
        get(server.put("model.pth", CONTENT))
    assert nothing_kept(cache)


def test_a_file_url_is_used_where_it_lies(tmp_path, cache):
    path = tmp_path / "with space.pth"
    path.write_bytes(CONTENT)
    assert get(path.as_uri(), sha256=DIGEST) == path
    with pytest.raises(InputError, match="was damaged or replaced"):
        get(path.as_uri(), sha256="0" * 64)
    with pytest.raises(InputError, match="no such file"):
        get((tmp_path / "absent.pth").as_uri())
    assert nothing_kept(cache)


def test_an_unwritable_cache_is_one_clear_error(server, tmp_path, monkeypatch):
    import torch

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "file"))
    with pytest.raises(InputError, match="give a folder that can be written"):
        get(server.put("model.pth", CONTENT))
