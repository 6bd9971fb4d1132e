"""Files are written whole: by many at once, over what another left, and never in part."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from conftest import ROOT
from lrjax import stats
from lrjax.storage import files

WRITE = """
import sys
from pathlib import Path
import numpy as np
from lrjax import stats
for i in range(60):
    stats.write_csv(Path(sys.argv[1]), {"x": np.full(1000, int(sys.argv[2]))})
"""


@pytest.mark.slow
def test_many_writers_and_readers_of_one_table_see_whole_tables(tmp_path):
    """Two processes and three threads write, three threads read."""
    path = tmp_path / "t.csv"
    stats.write_csv(path, {"x": np.full(1000, 0)})
    others = [subprocess.Popen([sys.executable, "-c", WRITE, path, str(k)], stderr=subprocess.PIPE) for k in (1, 2)]

    def write(k):
        for _ in range(100):
            stats.write_csv(path, {"x": np.full(1000, k)})

    def read(_):
        seen = []
        while any(process.poll() is None for process in others) or len(seen) < 50:
            seen.append(stats.read_csv(path)["x"])
        return all(len(x) == 1000 and len(set(x.tolist())) == 1 for x in seen)

    with ThreadPoolExecutor(6) as pool:
        writers = [pool.submit(write, k) for k in (3, 4, 5)]
        readers = [pool.submit(read, k) for k in range(3)]
        assert all(reader.result() for reader in readers) and not any(writer.exception() for writer in writers)
    for process in others:
        assert process.communicate()[1] == b"" and process.returncode == 0
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"], "no temporary file is left"


def test_a_write_that_fails_names_the_file_and_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    files.write_atomically(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot be written \(No space left on device\): '.*t.csv'"):
        files.write_atomically(path, "new")
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_writer_left_hinders_nobody(tmp_path):
    (left := tmp_path / files.TEMPORARY.replace("*", "0" * 32)).write_text("ha")
    files.write_atomically(tmp_path / "a" / "t.csv", "whole")
    files.write_atomically(tmp_path / "t.csv", "whole\r\n")
    assert (tmp_path / "t.csv").read_bytes() == b"whole\r\n" and list(files.stale_tmp_files(tmp_path)) == [left]


def test_every_writer_writes_atomically():
    """No module of the package and no script writes a file in its place."""
    modules = [path for folder in ("lrjax", "experiments") for path in (ROOT / folder).rglob("*.py")]
    assert len(modules) > 100
    direct = (".write_text(", ".write_bytes(", ".savefig(path", "os.replace(")
    found = {
        (path.relative_to(ROOT).as_posix(), line.strip())
        for path in modules
        for line in path.read_text().splitlines()
        if any(call in line for call in direct) and path.name != "files.py"
    }
    # checkpoints and exports are renamed as whole folders; a page of docs is made in a checkout, which keeps the one before
    whole = {"lrjax/storage/checkpoint.py", "lrjax/pretrained/export.py"}
    assert {name for name, _ in found} <= {*whole, "lrjax/reference.py"}, found
