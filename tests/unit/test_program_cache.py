"""Compiled programs that are kept: an entry of jax's cache is whole, or is not there."""

import errno
import os

import jax
import pytest
from jax._src import lru_cache

from lrjax import program_cache


@pytest.fixture
def entries(tmp_path, monkeypatch):
    """jax's cache in a folder of its own, as lrjax has it write."""
    monkeypatch.setattr(lru_cache.LRUCache, "put", getattr(lru_cache.LRUCache.put, "__wrapped__", lru_cache.LRUCache.put))
    program_cache.write_whole_entries()
    return lru_cache.LRUCache(str(tmp_path), max_size=-1)


def test_what_is_put_is_got(entries):
    entries.put("key", b"program")
    assert entries.get("key") == b"program" and entries.get("other") is None


def test_a_part_of_an_entry_is_replaced_by_the_whole(entries, tmp_path):
    (tmp_path / "key-cache").write_bytes(b"prog")
    entries.put("key", b"program")
    assert entries.get("key") == b"program"


def test_a_write_that_fails_leaves_nothing(entries, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        entries.put("key", b"program")
    assert list(tmp_path.iterdir()) == []


def test_a_cache_of_limited_size_stays_jaxs_own(entries, tmp_path):
    """jax forgets the entries that were not read for longest, and so writes beside each entry when it was read."""
    limited = lru_cache.LRUCache(str(tmp_path), max_size=10_000)
    limited.put("key", b"program")
    assert limited.get("key") == b"program" and (tmp_path / "key-atime").is_file()


def test_jax_names_its_entries_as_we_do(tmp_path):
    """What jax reads is what lrjax has written: the name of an entry is jax's."""
    assert lru_cache._CACHE_SUFFIX == "-cache"
    assert jax.config.jax_compilation_cache_max_size == -1
