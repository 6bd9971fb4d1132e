"""Which code this is. The version number alone does not say: it stands still while the code changes.

`source_digest` identifies the code wherever it is installed; `commit` says to people where to find it, if git knows it.
"""

import functools
import hashlib
import importlib.metadata
import json
import os
import subprocess
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
LENGTH = 12  # hexadecimal digits kept of a digest and of a commit


@functools.cache
def source_digest() -> str:
    """A digest of every Python file of the package: the same for the same code, however and wherever it is installed.

    It is computed once for a process, so it should be asked for early: the files may be edited while a long process runs.
    """
    digest = hashlib.sha256()
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py") if path.is_file()}
    for name in sorted(name for name in files if "/." not in f"/{name}"):  # hidden ones are copies that editors keep
        source = files[name].read_bytes().replace(b"\r\n", b"\n")  # git may change the ends of lines
        digest.update(f"{name}\0{len(source)}\0".encode() + source)
    return digest.hexdigest()[:LENGTH]


@functools.cache
def commit() -> str | None:
    """The git commit of the package, with `+changes` if files of the package differ from it; None if there is no commit.

    A checkout is asked through the git program. A package that pip installed from a git address has its commit on record.
    """
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:  # no git, no checkout, or installed inside another project's
        return _commit_of_installation()
    revision, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--", ".")
    return revision and revision.strip()[:LENGTH] + ("+changes" if changes else "")


def _git(*arguments: str) -> str | None:
    """What git says of the package's folder; None if it fails. Git writes nothing, and a hook's settings do not mislead it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", PACKAGE, *arguments],
            env={**environment, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def _commit_of_installation() -> str | None:
    """The commit that pip wrote down when it installed this package from a git address."""
    try:
        distribution = importlib.metadata.distribution(PACKAGE.name)
        if Path(str(distribution.locate_file(PACKAGE.name))).resolve() != PACKAGE.resolve():
            return None  # what is installed is not what runs
        return json.loads(distribution.read_text("direct_url.json") or "{}")["vcs_info"]["commit_id"][:LENGTH]
    except (importlib.metadata.PackageNotFoundError, OSError, ValueError, LookupError, TypeError):
        return None
