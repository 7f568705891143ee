"""The Python examples of the documents run as written and print what the documents say.

`python -m tests.integration.test_docs` writes what they print into the documents.
"""

import contextlib
import io
import os
import re
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    "README.md",
    "docs/answers.md",
    "docs/choosing.md",
    "docs/classifying.md",
    "docs/coefficients.md",
    "docs/coming-from.md",
    "docs/extending.md",
    "docs/families.md",
    "docs/gates.md",
    "docs/missing.md",
    "docs/numpyro.md",
    "docs/plots.md",
    "docs/posteriors.md",
    "docs/tutorial.md",
    "docs/uncertainty.md",
)
TEXTS = (
    "docs/big-files.md",
    "docs/calibration.md",
    "docs/design.md",
    "docs/explanation.md",
    "docs/index.md",
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OUTPUT = ("text", "console")


def printed(code, namespace, name):
    """What a piece of code prints, lines without the blanks at their end."""
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        exec(compile(code, name, "exec"), namespace)
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


def filled(text, name):
    """A document with its blocks of output as its blocks of Python print them.

    Blocks of "python" run in order and share their names; those of "py" are only shown. A block
    of output belongs to the code before it; code without one prints nothing.
    """
    blocks = list(BLOCK.finditer(text))
    namespace = {"__name__": "__main__"}
    pieces, end = [], 0
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block[1] != "python":
            continue
        line = text.count("\n", 0, block.start()) + 1
        output = printed(block[2], namespace, f"{name}, from line {line}")
        if following is not None and following[1] in OUTPUT:
            pieces += [text[end : following.start(2)], output]
            end = following.end(2)
        elif output:
            raise AssertionError(f"{name}: no block of output for {output!r} after {block[2]}")
    assert namespace.keys() > {"__name__"}, f"{name} has no examples"
    return "".join([*pieces, text[end:]])


@pytest.mark.long
@pytest.mark.parametrize("document", DOCUMENTS)
def test_examples_print_what_the_document_says(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / document).read_text(encoding="utf-8")
    assert filled(text, document).splitlines() == text.splitlines()


def test_output_goes_where_it_belongs():
    text = "```python\nprint(1)\n```\nso:\n```text\n0\n```\n```py\nx\n```\n```python\na = 1\n```\n"
    assert filled(text, "text") == text.replace("0", "1")
    with pytest.raises(AssertionError, match="no block"):
        filled("```python\nprint(1)\n```\n", "text")


@pytest.mark.parametrize("document", [*DOCUMENTS, *TEXTS])
def test_blocks_are_closed_and_links_lead_somewhere(document):
    path = ROOT / document
    text = path.read_text(encoding="utf-8")
    assert text.count("```") == 2 * len(BLOCK.findall(text))
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert "://" in target or (path.parent / target).exists(), target


if __name__ == "__main__":
    for place in [ROOT / document for document in DOCUMENTS]:
        before = place.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            place.write_text(filled(before, place.name), encoding="utf-8")
