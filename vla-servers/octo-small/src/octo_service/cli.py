"""The command line: `octo-service serve|demo|predict|convert|convert-data|check|demonstrate|finetune|evaluate`.

The flags are in `octo_service.commands.options`, which imports little, so that `--help` appears at once; a command's
module, `octo_service.commands.<name>`, is imported when the command runs.
"""

import errno
import importlib
import os
import sys
from collections.abc import Sequence

import tyro

from octo_service.commands.flags import REGISTRY, validated
from octo_service.commands.options import COMMANDS, Options
from octo_service.errors import Interrupted, UsageError
from vla_server_base.errors import VLAError

FILE_HINTS = {
    errno.ENOENT: "check the path",
    errno.EACCES: "name one that you may read, or write to",
    errno.EROFS: "name one that you may write to",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "name a folder, not a file",
    errno.ENOSPC: "make room, or name another disk",
}


def main() -> None:
    """Run one command. An error is one sentence; exit code 2 for a wrong command line, 130 after Ctrl-C, else 1."""
    if sys.argv[1:] == ["--version"]:
        from importlib.metadata import version  # takes as long as all else that is imported here

        print(f"octo-service {version('octo-service')}")
        return
    try:
        run(parse())
    except BrokenPipeError:  # the reader of the output has read enough; flushing it at the end must not fail either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        _exit(130, "interrupted")
    except Interrupted as interrupt:
        _exit(130, f"interrupted; {interrupt.as_sentence()}")
    except UsageError as error:
        _exit(2, error.as_sentence())
    except VLAError as error:
        _exit(1, error.as_sentence())
    except OSError as error:
        if error.errno not in FILE_HINTS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _exit(1, f"{where}{error.strerror}; {FILE_HINTS[error.errno]}")


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read a command with its flags, by default those that were typed; print help and exit if requested.

    Raises:
        UsageError: a value is out of range.
        ConfigError: a setting in the environment is.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    shown = {"config": (tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff), "registry": REGISTRY}
    if arguments and (command := COMMANDS.get(arguments[0])):
        # This one alone: what others read of the environment cannot stop it.
        return validated(tyro.cli(command, prog=f"octo-service {arguments[0]}", args=arguments[1:], **shown))
    description = "Octo, the open generalist robot policy, served. `octo-service --version` prints the version."
    return tyro.cli(Options, prog="octo-service", description=description, args=arguments, **shown)


def run(options: Options) -> None:
    """Do what was typed."""
    (name,) = (name for name, kind in COMMANDS.items() if kind is type(options))
    command = importlib.import_module(f"octo_service.commands.{name.replace('-', '_')}")
    command.run(options)


def _exit(code: int, sentence: str) -> None:
    print(f"octo-service: {sentence}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
