"""What is recorded of the code says whether it is the same, and where to find it."""

import json
import shutil
import subprocess
from types import SimpleNamespace

import pytest

from lrjax.storage import code_version

digest, commit = code_version.source_digest.__wrapped__, code_version.commit.__wrapped__  # asked anew each time


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two files."""
    folder = tmp_path / "project" / "lrjax"
    (folder / "tasks").mkdir(parents=True)
    (folder / "__init__.py").write_text("one\ntwo\n")
    (folder / "tasks" / "row.py").write_text("three\n")
    monkeypatch.setattr(code_version, "PACKAGE", folder)
    return folder


def test_the_digest_changes_with_the_code_and_with_nothing_else(package, monkeypatch):
    was = digest()
    assert len(was) == code_version.LENGTH
    (package / "__init__.py").write_bytes(b"one\r\ntwo\r\n")
    (package / "__init__.pyc").write_bytes(b"compiled")
    (package / ".ipynb_checkpoints").mkdir()
    (package / ".ipynb_checkpoints" / "row.py").write_text("an editor's copy")
    (package / ".#row.py").symlink_to("an editor's lock")
    assert digest() == was
    moved = shutil.copytree(package, package.parent / "site-packages" / "lrjax", symlinks=True)
    monkeypatch.setattr(code_version, "PACKAGE", moved)
    assert digest() == was, "wherever it is installed"
    (moved / "tasks" / "row.py").rename(moved / "tasks" / "pairs.py")
    assert digest() != was
    (moved / "tasks" / "pairs.py").rename(moved / "tasks" / "row.py")
    (moved / "tasks" / "row.py").write_text("four\n")
    assert digest() != was


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("git"), reason="no git program")
def test_the_commit_is_that_of_a_checkout_marked_if_it_was_changed(package, monkeypatch):
    def git(*arguments):
        user = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        return subprocess.run(["git", *user, *arguments], cwd=package, check=True, capture_output=True, text=True).stdout

    assert commit() is None, "no checkout"
    git("init", "--quiet", "..")
    (package.parent / "README.md").write_text("a project with lrjax inside its environment")
    git("add", "../README.md")
    git("commit", "--quiet", "--message", "first")
    assert commit() is None, "another project's commit is not ours"
    git("add", ".")
    git("commit", "--quiet", "--message", "second")
    head = git("rev-parse", "HEAD")[: code_version.LENGTH]
    assert commit() == head
    (package.parent / "README.md").write_text("changed, but no code of the package")
    assert commit() == head
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as in a hook
    assert commit() == head
    monkeypatch.delenv("GIT_DIR")
    (package / "new.py").write_text("")
    assert commit() == f"{head}+changes"
    monkeypatch.setenv("PATH", "/nowhere")
    assert commit() is None, "no git program"


def test_the_commit_of_an_installation_is_what_pip_wrote_down(package, monkeypatch):
    record = {"url": "https://example.org/lrjax", "vcs_info": {"vcs": "git", "commit_id": "0123456789abcdef0123"}}
    where = {"record": json.dumps(record), "place": package}
    distribution = SimpleNamespace(read_text=lambda _: where["record"], locate_file=lambda _: where["place"])
    monkeypatch.setattr(code_version.importlib.metadata, "distribution", lambda name: distribution)
    assert commit() == "0123456789ab"
    where["place"] = package.parent
    assert commit() is None, "what is installed is not what runs"
    for unknown in (None, "{}", '{"url": "file:///lrjax", "dir_info": {"editable": true}}', "not JSON", "[]"):
        where |= {"record": unknown, "place": package}
        assert commit() is None
