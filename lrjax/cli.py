"""What every command of `experiments` shares: flags, and one-line errors with exit code 2."""

import atexit
import gc
import io
import re
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from lrjax import devices, hosts, output, paths, program_cache, runner, surroundings
from lrjax.config import Sweep, check_keys, get_config
from lrjax.errors import InputError, SaveError
from lrjax.training.programs import Measure
from lrjax.training.run import Run

_default_config = None


def define_config(default: Path) -> flags.FlagHolder:
    """`--config=FILE` (`default` if not given) and `--config.key=value`."""
    global _default_config  # absl's flags are global too; given to it as a default, a bad key would raise before flags are parsed
    _default_config = default
    return config_flags.DEFINE_config_file(
        "config",
        None,
        f"config file: Python with a get_config() (default: {default}); its keys: docs/reference/config.md of the repository",
    )


class _Path(flags.ArgumentParser):
    syntactic_help = "a path; ~ is the home folder"

    def parse(self, argument: str) -> str:
        return paths.given(argument)


def define_path(name: str, default: str | None, help: str, **kwargs) -> flags.FlagHolder:
    """A flag that takes a path, not an empty one, in which `~` is expanded. `kwargs` as of absl's DEFINE, such as required=True."""
    return flags.DEFINE(_Path(), name, default, help, serializer=flags.ArgumentSerializer(), **kwargs)


def define_paths(name: str, help: str, **kwargs) -> flags.FlagHolder:
    """A flag that takes a path, and may be given several times. `kwargs` as of absl's DEFINE_multi, such as required=True."""
    return flags.DEFINE_multi(_Path(), flags.ArgumentSerializer(), name, None, help, **kwargs)


COORDINATOR = flags.DEFINE_string("coordinator", None, "several hosts: HOST:PORT of process 0 (found by itself on a cluster)")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "several hosts: how many processes")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "several hosts: which one this is, 0..num_processes-1")
CACHE = flags.DEFINE_bool("compilation_cache", True, "keep compiled programs in the user's cache folder, for the next run")

HELP = {"help", "helpshort", "helpfull", "helpxml", "?"}  # absl prints it and ends
DETERMINISTIC = flags.DEFINE_bool("deterministic", False, "on a GPU, the same bits every time; slower (a CPU always does that)")
flags.disclaim_key_flags()  # what functions here define from now on is the caller's: --help lists it


def run(main: Callable[[], None]) -> None:
    """Parse flags, call main; what the user got wrong is said in one line, with exit code 2 and no traceback."""

    def guarded(argv):
        logging.set_verbosity(logging.WARNING)
        try:
            if stray := argv[1:]:
                raise InputError(f"{stray[0]!r}: stray argument; all arguments are flags, such as --workdir=DIR (see --help)")
            main()
            if output.reader_is_gone():
                sys.exit(128 + output.SIGPIPE)
            if error := output.error():
                raise SaveError(f"standard output: could not be written ({error.strerror}); all files of this command were written")
        except (InputError, OSError) as error:  # OSError names its file
            _fail(error)
        except SaveError as error:
            _fail(error, code=1)
        except KeyboardInterrupt:
            _fail("interrupted", code=128 + signal.SIGINT)

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files are printed byte by byte, whatever the encoding
    output.guard()
    gc.freeze()  # what imports made is no garbage; nor is what is left at the end, which Python would look through (half a second)
    atexit.register(gc.freeze)
    with surroundings.pinned():
        app.run(guarded, flags_parser=_parse)


def train(run: Run, folder: Path, measures: tuple[Measure, ...] = (), resume: str = "--resume") -> None:
    """Train to the end. Asked to stop, save and exit; what could not be saved is said at once, and at the end. `resume`: the flag
    that makes this command go on.
    """
    try:
        number = runner.train(run, folder, measures)
    except SaveError as error:
        raise SaveError(f"{error} with: {again(resume)}") from error
    if number and not (run.finished and number == output.SIGPIPE):  # of a finished run tables and figures are left to do
        stopped(number, resume)


def train_in(folder: Path, wanted: Sweep, measures: tuple[Measure, ...] = ()) -> Run:
    """A sweep in its folder, trained to its end: begun, gone on with where it was stopped, or as it is if it is finished."""
    run = runner.open_in(folder, wanted)
    if not run.finished:
        train(run, folder, measures, resume="")
    return run


def stopped(number: int, resume: str = "--resume") -> None:
    """End as a signal would have, and say how to go on."""
    name, where = ("SIGPIPE", sys.stderr) if number == output.SIGPIPE else (signal.Signals(number).name, sys.stdout)
    if devices.first_process():
        print(f"{name}: stopped; continue with: {again(resume)}", file=where, flush=True)
    sys.exit(128 + number)


def again(resume: str = "--resume") -> str:
    """The command that continues this run."""
    command = [argument for argument in sys.orig_argv if argument not in ("--overwrite", "--resume")]
    return shlex.join([*command, resume] if resume else command)


def whole_numbers(flag: str, values: list[str] | None, example: str = "0,2") -> list[int] | None:
    """The numbers of a list flag; None if it was not given."""
    if values is None:
        return None
    given = f"--{flag}={','.join(values)}"
    if not values or not all(value.strip().isdecimal() for value in values):
        raise InputError(f"{given}: expected whole numbers joined by commas, such as --{flag}={example}")
    numbers = [int(value) for value in values]
    if len(set(numbers)) < len(numbers):
        raise InputError(f"{given}: repeats a number; give each once")
    return numbers


def _parse(argv: list[str]) -> list[str]:
    if _default_config and not any(argument.partition("=")[0] in ("-config", "--config") for argument in argv[1:]):
        argv = sys.argv = [argv[0], f"--config={_default_config}", *argv[1:]]  # ml_collections reads sys.argv itself
    try:
        argv = sys.argv = _expanded(argv)
        _check_config(argv)
        _start_jax(argv)
        return flags.FLAGS(argv)
    except InputError as error:
        _fail(error)
    except KeyboardInterrupt:
        _fail("interrupted", code=128 + signal.SIGINT)
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and _asks_for_help(argv):
            raise SystemExit(0) from None  # absl has printed the help, and ends with 1
        if isinstance(error, flags.Error) and "Traceback" not in str(error):
            _fail(re.sub(r"invalid literal for int\(\).*", "expected a whole number", str(error)))
        # A config file is code and may do anything; the last line says what went wrong.
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        files = [argument for argument in argv if argument.startswith("--config=")]
        said = lines[-1].strip() if lines else repr(error)
        _fail(f"{files[0] if files else '--config'}: {said}; give a file with a get_config()")


def _asks_for_help(argv: list[str]) -> bool:
    return bool(HELP & {argument.lstrip("-") for argument in argv[1:]})


def _expanded(argv: list[str]) -> list[str]:
    """Arguments with `~` expanded in --config=FILE, a flag of ml_collections', which would take it for a folder's name."""
    expanded = list(argv)
    for i, argument in enumerate(argv):
        name, separator, path = argument.partition("=")
        try:
            if name in ("-config", "--config") and separator:
                expanded[i] = f"{name}={paths.expand(path)}"
            elif i and argv[i - 1] in ("-config", "--config"):
                expanded[i] = paths.expand(argument)
        except InputError as error:
            raise InputError(f"--config={path or argument}: {error}") from error
    return expanded


def _start_jax(argv: list[str]) -> None:
    """Ready the devices and start jax, before the config file is read: it is code, and may ask jax for something.

    So the flags that decide on devices are parsed before all others.
    """
    if _asks_for_help(argv):
        return
    early = flags.FlagValues()
    early.set_gnu_getopt(True)
    for holder in (COORDINATOR, NUM_PROCESSES, PROCESS_ID, CACHE, DETERMINISTIC):
        early[holder.name] = flags.FLAGS[holder.name]
    early(argv, known_only=True)
    if early.deterministic:
        devices.be_deterministic()
    devices.use_all_cores()
    hosts.join(early.coordinator, early.num_processes, early.process_id)
    if early.compilation_cache:
        program_cache.use_compilation_cache()


def _check_config(argv: list[str]) -> None:
    """What ml_collections would answer with a traceback: a config file that is not there, a key that does not exist."""
    if "config" not in flags.FLAGS:
        return
    known = get_config()
    for i, argument in enumerate(argv):
        name, separator, value = argument.lstrip("-").partition("=")
        if not argument.startswith("-"):
            continue
        if name == "config":
            path = value if separator else (argv[i + 1] if i + 1 < len(argv) else "")
            if not Path(path.rpartition(":")[0] or path).is_file():  # file.py:argument of get_config
                raise InputError(f"--config={path}: no such file; give a config such as experiments/configs/diversity.py")
        elif name.startswith("config."):
            check_keys([name.removeprefix("config.")], known, argument)


def _fail(error, code: int = 2) -> NoReturn:
    print("error:", " ".join(str(error).split()), file=sys.stderr)
    sys.exit(code)
