"""The folder in which a server keeps what it need not make again."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

logger = logging.getLogger(__name__)


@contextmanager
def writable_cache(folder: Path) -> Iterator[Path]:
    """Give a folder that can be written to: `folder`, else one that is gone when the server ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        logger.warning(
            "VLA_CACHE_DIR=%s is not writable (%s): converted checkpoints, compiled programs and the key of session"
            " tokens are lost when the server ends; set it to a writable folder",
            folder,
            error.strerror,
        )
        with ExitStack() as stack:
            own = folder
            with suppress(OSError):  # the disk is full: all who would write here go on without
                own = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vla-servers-")))
            yield own
    else:
        yield folder
