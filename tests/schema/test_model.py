"""The schema as data: what its digest names, and that it cannot be changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from collector.schema import load_schema, resources
from tests.schema.conftest import Loader
from tests.support.make_schemas import PLAIN, one
from tests.support.programs import script
from tests.support.rows import for_each

_PSEUDONYM = one("kind: pseudonym, key: 'env:ONE', rotate: 1d")


def test_the_same_document_has_the_same_digest(load: Loader) -> None:
    other = "# a comment\n" + PLAIN.replace(
        "{kind: enum, values: [linux], ", "{values: ['linux'], "
    )
    other = other.replace("retention: 30d", "kind: enum, retention: 720h").replace("30d", "720h")
    assert load(other).digest == load(PLAIN).digest
    assert len(load(PLAIN).digest) == 64


def test_digests_do_not_depend_on_the_process() -> None:
    code = "import sys; from collector import load_schema as load;"
    code += "print(*(load(name).digest for name in sys.argv[1:]))"
    digests = {
        script(code, *resources.names(), environ={"PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2")
    }
    assert digests == {" ".join(load_schema(n).digest for n in resources.names()) + "\n"}


@for_each(
    ("old", "new"),
    [
        *(("[linux]", "[linux, windows]"), ("[linux]", "[windows]")),
        *(("retention: 30d", "retention: 31d"), ("user.device,", "user.telemetry,")),
        *(("1.0.0", "1.0.1"), ("schema: sample", "schema: other")),
        ("reason: Keep the call up", "reason: Keep calls up"),
        ("basis: contract", "basis: consent"),
        ("basis: contract", "basis: contract, optional: true"),
        ("os.type:", "os.name:"),
        ("kind: enum,", "kind: enum, from: [x],"),
        ("kind: enum,", "kind: enum, required: true,"),
        ("kind: enum,", "kind: enum, fold_case: true,"),
        ("kind: enum,", "kind: enum, expires: 2030-01-01,"),
        ("kind: enum,", "kind: enum, aliases: {Linux: linux},"),
        ("title:", "records: people\ntitle:"),
        ("title:", "max_bits: 99\ntitle:"),
        ("title:", "content: {chat: [backchannel]}\ntitle:"),
    ],
)
def test_another_document_has_another_digest(load: Loader, old: str, new: str) -> None:
    assert old in PLAIN
    assert load(PLAIN.replace(old, new)).digest != load(PLAIN).digest


def test_tests_are_outside_the_digest(load: Loader) -> None:
    tested = PLAIN + "tests: [{name: one, event: {}, keeps: {}}]\n"
    assert load(tested).digest == load(PLAIN).digest


def test_the_key_reference_is_outside_the_digest(load: Loader) -> None:
    digest = load(_PSEUDONYM).digest
    assert load(_PSEUDONYM.replace("env:ONE", "file:/run/other")).digest == digest
    assert load(_PSEUDONYM.replace("rotate: 1d", "rotate: 2d")).digest != digest


def test_a_catalogue_is_inside_the_digest(load: Loader, tmp_path: Path) -> None:
    text, catalogue = one("kind: token, catalogue: mine"), tmp_path / "mine.txt"
    digests = []
    for entries in ("a\nb\n", "b\n# note\na\n", "a\nbb\n"):
        catalogue.write_text(f"# source: made up\n{entries}")
        digests.append(load(text).digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_schema_cannot_be_changed(load: Loader) -> None:
    schema = load(PLAIN)
    digest = schema.digest
    for part, name in ((schema, "version"), (schema.fields["os.type"], "category")):
        with pytest.raises(ValidationError):
            setattr(part, name, "other")
    with pytest.raises(ValidationError):
        setattr(schema.purposes["ops"], "optional", True)  # noqa: B010
    assert schema.digest == digest


def test_a_schema_describes_itself_as_json(load: Loader) -> None:
    schema = load(_PSEUDONYM.replace("kind: enum,", "kind: enum, expires: 2030-01-01,"))
    plain = schema.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    assert plain["fields"]["os.type"]["expires"] == "2030-01-01"
    assert plain["fields"]["os.name"]["rotate"] == "1d"
    assert plain["fields"]["os.name"]["retention"] == "30d"
    assert plain["schema"] == "sample"
