"""The Python examples of the documents run as written and print what the documents say."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OUTPUT = ("text", "console")
DOCUMENTS = ("README.md", "docs/answers.md")


def examples(text):
    """Pairs of code and what it prints; a block of output belongs to the code before it.

    Blocks in "python" are examples, with or without a block of output after them; those in "py"
    are only shown.
    """
    blocks = FENCE.findall(text)
    followers = [*blocks[1:], ("", "")]
    return [
        (code, output if language in OUTPUT else "")
        for (own, code), (language, output) in zip(blocks, followers, strict=True)
        if own == "python"
    ]


def printed(code, namespace, name):
    """What a piece of code prints, lines without the blanks at their end."""
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        exec(compile(code, name, "exec"), namespace)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


@pytest.mark.long
@pytest.mark.parametrize("document", DOCUMENTS)
def test_examples_print_what_the_document_says(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = examples((ROOT / document).read_text(encoding="utf-8"))
    assert found
    namespace = {"__name__": "__main__"}
    for number, (code, output) in enumerate(found):
        expected = [line.rstrip() for line in output.splitlines()]
        assert printed(code, namespace, f"{document}[{number}]") == expected, code


def test_an_output_belongs_to_the_code_before_it():
    text = "```python\na\n```\nso:\n```text\n1\n```\n```python\nb\n```\n```py\nc\n```\n"
    assert examples(text) == [("a\n", "1\n"), ("b\n", "")]


@pytest.mark.parametrize("document", [*DOCUMENTS, "docs/design.md"])
def test_fences_are_closed_and_links_lead_somewhere(document):
    path = ROOT / document
    text = path.read_text(encoding="utf-8")
    assert text.count("```") == 2 * len(FENCE.findall(text))
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), target
