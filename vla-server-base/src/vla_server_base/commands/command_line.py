"""A program's command line: what was typed, run; what goes wrong, in one sentence with an exit code.

The flags are in `options/`, which imports little, so that `--help` appears at once; a command's module, which lies
beside `options/`, is imported when the command runs.
"""

import errno
import functools
import importlib
import operator
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NoReturn

import tyro

from vla_server_base.commands.flags import REGISTRY, validated
from vla_server_base.commands.interrupts import repeat_lost_interrupts
from vla_server_base.commands.program import PolicyProgram
from vla_server_base.errors import Interrupted, UsageError, VLAError

SHOWN: Mapping[str, Any] = {
    "config": (tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff),
    "registry": REGISTRY,
}

FILE_HINTS = {
    errno.ENOENT: "check the path",
    errno.EACCES: "name one that you may read, or write to",
    errno.EROFS: "name one that you may write to",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "name a folder, not a file",
    errno.ENOSPC: "make room, or name another disk",
}


def main(program: PolicyProgram[Any]) -> None:
    """Run one command. An error is one sentence; exit code 2 for a wrong command line, 130 after Ctrl-C, else 1."""
    if sys.argv[1:] == ["--version"]:
        from importlib.metadata import version  # takes as long as all else that is imported here

        print(f"{program.name} {version(program.name)}")
        return
    repeat_lost_interrupts()
    try:
        run(program, parse(program))
    except BrokenPipeError:  # the reader of the output has read enough; flushing it at the end must not fail either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        _exit(program, 130, "interrupted")
    except Interrupted as interrupt:
        _exit(program, 130, f"interrupted; {interrupt.as_sentence()}")
    except UsageError as error:
        _exit(program, 2, error.as_sentence())
    except VLAError as error:
        _exit(program, 1, error.as_sentence())
    except OSError as error:
        if error.errno not in FILE_HINTS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _exit(program, 1, f"{where}{error.strerror}; {FILE_HINTS[error.errno]}")


def parse(program: PolicyProgram[Any], arguments: Sequence[str] | None = None) -> Any:
    """Read a command with its flags, by default those that were typed; print help and exit if requested.

    Raises:
        UsageError: a value is out of range.
        ConfigError: a setting in the environment is.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and (command := program.commands.get(arguments[0])):
        # This one alone: what others read of the environment cannot stop it.
        return validated(tyro.cli(command, prog=f"{program.name} {arguments[0]}", args=arguments[1:], **SHOWN))
    named = [Annotated[kind, tyro.conf.subcommand(name)] for name, kind in program.commands.items()]
    one_of_them: Any = functools.reduce(operator.or_, named)
    description = f"{program.description} `{program.name} --version` prints the version."
    return tyro.cli(one_of_them, prog=program.name, description=description, args=arguments, **SHOWN)


def run(program: PolicyProgram[Any], options: Any) -> None:
    """Do what was typed."""
    command = importlib.import_module(type(options).__module__.replace(".options.", "."))
    command.run(options, program)


def _exit(program: PolicyProgram[Any], code: int, sentence: str) -> NoReturn:
    print(f"{program.name}: {sentence}", file=sys.stderr)
    sys.exit(code)
