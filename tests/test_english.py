"""Messages, docstrings and comments are plain technical English.

Messages are the strings of `raise` statements, of hints and of log calls: all that a user may read.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    file
    for package in ("vla-client", "vla-console", "vla-server-base", "vla-servers/*")
    for source in ROOT.glob(f"{package}/src")
    for file in source.rglob("*.py")
)
# Each idiom with what to write instead.
IDIOMS = {
    r"(?<!there )\b(is|are) none\b": "name what was given",
    r"(?<!there )\b(is|are) no (?!longer\b)[a-z]": "is not a ...",
    r"\banew\b": "again, new",
    r"\bwas made otherwise\b": "say how it differs",
    r"\b(is|are) taken\b(?! from| for| by| as| at| in )": "accepted, supported, used",
    r"\bof (its|their|one's) own\b(?! (block|time|scenes))": "its own ..., separate",
    r"\b(is|are) to be\b": "must, should",
    r"\b(whoever|whomever)\b": "name who",
    r"\b(has|is|was|are) told\b": "receives, reports",
    r"\b(is|are) there\b(?! an?y?\b)": "exists, is available",
    r"\bpictures?\b": "image",
    r"\bany more\b": "no longer",
    r"\bof late\b": "recently",
    r"\bas a rule\b": "usually",
    r"\b(known|taken|read) here\b": "available, supported",
    r"\bexclude one another\b": "cannot be combined",
    r"\bbe listened on\b": "cannot listen on ...",
    r"\bfor ever\b": "forever, without end",
}
# Idioms that a comment may have, but no message.
IDIOMS_OF_MESSAGES = IDIOMS | {
    r"\bwhatever\b": "name what",
    r"\b(is|are) the most\b": "the limit is ...",
    r"\b(is|are) asked for\b": "requested, or: expected ..., got ...",
    r"\b(is|are) given, this\b": "expected ..., got ...",
    r"\bgoes? on\b|\bwent on\b": "continue",
    r"\bof its kind\b": "in another format",
    r"\bnot wholly\b": "not completely",
    r"\bfor you\b": "say what the user cannot do",
}


def messages(source: str) -> Iterator[tuple[int, str]]:
    """Yield the strings of `raise` statements, of `hint=` and of log calls, with their lines."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Raise(exc=ast.expr() as message) | ast.keyword(arg="hint", value=message):
                parts = [message]
            case ast.Call(func=ast.Attribute(value=ast.Name(id="logger")), args=parts):
                pass
            case _:
                continue
        for part in parts:
            for each in ast.walk(part):
                if isinstance(each, ast.Constant) and isinstance(each.value, str):
                    yield each.lineno, each.value


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of docstrings and comments, with their numbers."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or token.string.startswith(('"""', 'r"""')):
            yield from enumerate(token.string.splitlines(), token.start[0])


def idioms_in(texts: Iterator[tuple[int, str]], idioms: dict[str, str]) -> list[str]:
    return [
        f"line {line}: {text.strip()!r}: write {advice!r}"
        for line, text in texts
        for idiom, advice in idioms.items()
        if re.search(idiom, text)
    ]


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_messages_docstrings_and_comments_have_no_private_idiom(file: Path):
    source = file.read_text()
    idioms = idioms_in(messages(source), IDIOMS_OF_MESSAGES) + idioms_in(prose(source), IDIOMS)
    assert not idioms, "\n".join(idioms)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ('raise ValueError(f"the shape {shape} is none")', " is none"),
        ('error = ImageError("too large", hint="send another picture")', "send another picture"),
        ('logger.info("the port %s cannot be listened on", port)', "the port %s cannot be listened on"),
        ('logger.info("%s goes on", name)', "%s goes on"),
    ],
)
def test_an_idiom_in_a_message_is_noticed(source: str, text: str):
    (idiom,) = idioms_in(messages(source), IDIOMS_OF_MESSAGES)
    assert repr(text.strip()) in idiom


@pytest.mark.parametrize(
    "source", ['"""Return a picture."""', "x = 1  # set anew", 'x = 1\n"""What x is,\nor whoever set it."""']
)
def test_an_idiom_in_a_docstring_or_a_comment_is_noticed(source: str):
    assert len(idioms_in(prose(source), IDIOMS)) == 1


@pytest.mark.parametrize(
    "text", ["None if there is none", "there are no images", "its own port", "is taken from a hub"]
)
def test_plain_english_is_accepted(text: str):
    assert idioms_in(iter([(1, text)]), IDIOMS_OF_MESSAGES) == []
