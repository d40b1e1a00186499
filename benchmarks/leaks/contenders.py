"""The contenders: what people use to let only some of an event through. Each has two variants: as
its documentation shows it, and as strong as we could make it. Also runs them.

A contender runs in its own environment (``build`` creates it in ``.venv-leaks``, which needs the
package index), as ``python -m benchmarks.leaks.contenders JOB RESULT``. The environment has only
the standard library and the contender's packages. A contender whose environment or program is
missing is skipped and named; it never counts as letting nothing through.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial, reduce
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Annotated, Any, Literal, NamedTuple

from benchmarks.figures import BenchmarkError, peak_mb, say

Event = tuple[str, str]
"""The name of a shape, and a document as JSON."""
Spec = dict[str, dict[str, dict[str, Any]]]
"""By shape and field: ``paths`` (of keys within a record), and ``values`` or ``pattern``."""
Fields = dict[str, dict[str, Any]]
Variant = Literal["documented", "strongest"]
VARIANTS: tuple[Variant, ...] = ("documented", "strongest")


class Program(NamedTuple):
    """A program: ``run`` takes all events and returns an output for each. ``configuration`` is
    printed. If ``run`` remembers texts, ``timed`` does the same without."""

    run: Callable[[list[Event]], list[str]]
    configuration: str
    version: str
    timed: Callable[[list[Event]], list[str]] | None = None


class Contender(NamedTuple):
    """A contender in the table. ``packages`` make its environment. Without packages, it runs in the
    present environment. It also does so if its environment is not built and the present one has the
    packages (``has_both``). ``removes`` are listed fields that it does not promise to keep, by
    variant."""

    title: str
    make: Callable[[Variant, Spec], Program]
    packages: tuple[str, ...] = ()
    newest: bool = False
    has_both: bool = False
    removes: Mapping[str, frozenset[str]] = {}


class Outcome(NamedTuple):
    """The output of each event, µs of CPU per event, peak MB, and what ran."""

    outputs: list[str]
    us: float
    peak_mb: float
    configuration: str
    version: str


# -- what they share -------------------------------------------------------------------------------


def _each(function: Callable[[str, str], str]) -> Callable[[list[Event]], list[str]]:
    """Make ``run`` from a function that takes a shape and a text."""
    return lambda events: [function(shape, text) for shape, text in events]


def _by_shape(
    function: Callable[[str, list[str]], list[str]],
) -> Callable[[list[Event]], list[str]]:
    """Make ``run`` from a function that takes a shape and all its texts at once."""

    def run(events: list[Event]) -> list[str]:
        texts: dict[str, list[str]] = {}
        for shape, text in events:
            texts.setdefault(shape, []).append(text)
        outputs = {shape: iter(function(shape, given)) for shape, given in texts.items()}
        return [next(outputs[shape]) for shape, _ in events]

    return run


_ITEMS: dict[str, tuple[str, ...]] = {
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics", "gauge", "dataPoints"),
}
"""Where OTLP's items are; all but ``gauge`` are lists."""


def _rows(shape: str, document: Any) -> Iterator[Any]:
    """Yield the records of a document, as code would that knows its shape."""
    if shape == "meeting":
        yield document
    elif shape == "webrtc":
        yield from document[2].values()
    elif shape == "vendor":
        yield from document["participants"]
    else:
        for item in _below(document, _ITEMS[shape]):
            pairs = item.get("attributes", ())
            yield {pair["key"]: pair["value"].get("stringValue") for pair in pairs}


def _below(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """Yield everything at a path through objects and lists."""
    if isinstance(value, list):
        for one in value:
            yield from _below(one, path)
    elif path:
        yield from _below(value[path[0]], path[1:])
    else:
        yield value


def _at(record: Any, path: list[str]) -> Any:
    """Return the value at a path, if there is one."""
    for key in path:
        record = record.get(key) if isinstance(record, dict) else None
    return record


def _allowed(value: Any, field: dict[str, Any]) -> bool:
    """Return whether the field may have a value."""
    if not isinstance(value, str):
        return False
    if "values" in field:
        return value in field["values"]
    if "pattern" in field:
        return re.fullmatch(field["pattern"], value) is not None
    with suppress(ValueError):
        address = ip_address(value)
        return not (address.is_multicast or address.is_link_local or "%" in value)
    return False


def _ndjson(records: Iterable[Any], *, sort: bool) -> str:
    """Return records as NDJSON, without empty ones. If they are sorted, their order carries
    nothing."""
    found = [f"{json.dumps(each, ensure_ascii=False)}\n" for each in records if each]
    return "".join(sorted(found) if sort else found)


_WRONG = (AttributeError, KeyError, TypeError, IndexError, ValueError)
"""Exceptions of code for a shape on other events; such an event is lost."""


# -- Collector, and allowlists in Python -----------------------------------------------------------


def _collector(variant: Variant, _spec: Spec) -> Program:
    """The filter, followed by the random order of its sinks. It uses the shipped schema for the
    shape; the strongest variant uses the reduced one."""
    from benchmarks.leaks.events import SHAPES  # noqa: PLC0415 - only here is Collector installed
    from collector import Filter, load_schema  # noqa: PLC0415
    from collector.sinks.sink import shuffled  # noqa: PLC0415

    reduced = {"conferencing": "conferencing-strict"} if variant == "strongest" else {}
    names = {shape.name: reduced.get(shape.schema, shape.schema) for shape in SHAPES.values()}
    filters = {shape: Filter(load_schema(name)) for shape, name in names.items()}

    def one(shape: str, text: str) -> str:
        filter_, signal = filters[shape], SHAPES[shape].signal
        if signal is None:
            admission = filter_.admit_lines(text.encode())
        else:
            admission = filter_.admit_otlp(signal, text.encode(), protobuf=False)
        return b"".join(shuffled(admission.encode().splitlines(keepends=True))).decode()

    shown = ", ".join(f"{shape}: {name}" for shape, name in names.items()) + "; shuffled"
    return Program(_each(one), shown, version("data-minimisation-collector"))


def _projected(shape: str, document: Any, fields: Fields, checks: bool) -> Iterator[Any]:
    """Yield the listed fields of each record."""
    for record in _rows(shape, document):
        found = {}
        for name, field in fields.items():
            for path in field["paths"]:
                value = _at(record, path)
                if value is not None and (not checks or _allowed(value, field)):
                    found[name] = value
                    break
        yield found


def _orjson(variant: Variant, spec: Spec) -> Program:
    """A projection by hand: without checks; or with checks, and with sorted records."""
    import orjson  # noqa: PLC0415 - each contender has packages of its own

    checks = variant == "strongest"

    def one(shape: str, text: str) -> str:
        with suppress(*_WRONG):
            found = _projected(shape, orjson.loads(text), spec[shape], checks)
            return _ndjson(found, sort=checks)
        return ""

    source = inspect.getsource(_projected)
    if checks:
        source += f"{inspect.getsource(_allowed)}; records are sorted"
    return Program(_each(one), source, orjson.__version__)


def _checked(field: dict[str, Any]) -> Any:
    """Return the type of a field with pydantic's checks; a wrong value counts as absent."""
    import pydantic  # noqa: PLC0415

    def check(value: str) -> str:
        if not _allowed(value, field):
            raise ValueError
        return value

    def absent(value: Any, handler: Any) -> Any:
        with suppress(pydantic.ValidationError):
            return handler(value)

    kind: Any = Annotated[str, pydantic.AfterValidator(check)]
    if "values" in field:
        kind = Literal[tuple(field["values"])]
    elif "pattern" in field:
        kind = Annotated[str, pydantic.Field(pattern=f"^(?:{field['pattern']})$")]
    return Annotated[kind | None, pydantic.WrapValidator(absent)]


def _pydantic(variant: Variant, spec: Spec) -> Program:
    """Models with text fields; or strict models with checked fields, where a wrong value costs only
    its field, and with sorted records."""
    import pydantic  # noqa: PLC0415

    checks = variant == "strongest"
    models: dict[str, Any] = {}
    for shape, fields in spec.items():
        members: dict[str, Any] = {}
        for name, field in fields.items():
            kind = _checked(field) if checks else str | None
            default = pydantic.Field(default=None, serialization_alias=name)
            members[name.replace(".", "_")] = (kind, default)
        config = pydantic.ConfigDict(strict=checks, regex_engine="python-re")
        models[shape] = pydantic.create_model(f"Record_{shape}", __config__=config, **members)

    def record(shape: str, row: Any) -> dict[str, Any]:
        found = {
            name.replace(".", "_"): reduce(
                lambda a, b: b if a is None else a, [_at(row, path) for path in field["paths"]]
            )
            for name, field in spec[shape].items()
        }
        made = models[shape].model_validate(found)
        return dict(made.model_dump(by_alias=True, exclude_none=True))

    def one(shape: str, text: str) -> str:
        with suppress(*_WRONG):
            document = pydantic.TypeAdapter(Any).validate_json(text)
            found = [record(shape, row) for row in _rows(shape, document)]
            return _ndjson(found, sort=checks)
        return ""

    told = "`str | None` each"
    if checks:
        told = "Literal, pattern and a validator for each field; records are sorted"
    return Program(_each(one), f"one model a shape; {told}", pydantic.VERSION)


# -- jq --------------------------------------------------------------------------------------------

_OCTET, _GROUP = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])", "[0-9a-fA-F]{1,4}"
_ADDRESS = (
    rf"{_OCTET}(\.{_OCTET}){{3}}|({_GROUP}:){{7}}{_GROUP}"
    rf"|(?!.*::.*::)(?=.*::)(?!:[^:])(?!.*[^:]:\z)({_GROUP})?(:({_GROUP})?){{2,7}}"
)


def _jq_rows(shape: str) -> str:
    usual = {"meeting": ".", "webrtc": ".[2][]", "vendor": ".participants[]"}
    if shape in usual:
        return usual[shape]
    items = "".join(f".{key}" + "[]" * (key != "gauge") for key in _ITEMS[shape])
    return f"{items} | [.attributes[]? | {{(.key): .value.stringValue}}] | add"


def _jq_program(shape: str, fields: Fields, *, checks: bool) -> str:
    """Return the program for a shape, which gives a list of records for each line. Lists of values
    are written as objects, because jq looks keys up but scans lists."""
    members = []
    for name, field in fields.items():
        paths = ", ".join(f"getpath({json.dumps(path)})?" for path in field["paths"])
        pattern = json.dumps(f"^(?:{field.get('pattern', _ADDRESS)})\\z")
        check = f'(type == "string") and test({pattern})'
        if "values" in field:
            listed = f". as $value | $lists[0][{json.dumps(name)}] | has($value)"
            check = f'(type == "string") and ({listed})'
        test = f" and ({check})" if checks else ""
        members.append(f"{json.dumps(name)}: (first(({paths}) | select(. != null{test})) // null)")
    record = f"{{{', '.join(members)}}} | with_entries(select(.value != null))"
    sort = " | sort" if checks else ""
    return f"try ([{_jq_rows(shape)} | {record}]{sort}) catch []"


def _jq(variant: Variant, spec: Spec) -> Program:
    """A projection; or one that tests each value against an expression or a list, and sorts."""
    checks = variant == "strongest"
    programs = {shape: _jq_program(shape, of, checks=checks) for shape, of in spec.items()}

    def run(shape: str, texts: list[str]) -> list[str]:
        listed = {name: of["values"] for name, of in spec[shape].items() if "values" in of}
        with NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({name: dict.fromkeys(values, 1) for name, values in listed.items()}, file)
            file.flush()
            command = ["jq", "-c", "--slurpfile", "lists", file.name, programs[shape]]
            given = "\n".join(texts).encode()
            done = subprocess.run(command, input=given, capture_output=True, check=True)
        return done.stdout.decode().splitlines()

    if shutil.which("jq") is None:
        raise ImportError("jq", name="jq")
    told = subprocess.run(["jq", "--version"], capture_output=True, text=True, check=True)
    return Program(_by_shape(run), programs["meeting"], told.stdout.strip())


# -- Vector's remap language -----------------------------------------------------------------------


def _vrl_rows(shape: str) -> str:
    usual = {
        "meeting": "rows = [doc]",
        "webrtc": "rows = values(object(doc[2]) ?? {})",
        "vendor": "rows = array(doc.participants) ?? []",
    }
    if shape in usual:
        return usual[shape]
    above, lines = "doc", ["rows = []"]
    for at, key in enumerate(_ITEMS[shape]):
        if key == "gauge":
            above += ".gauge"
        else:
            lines.append(f"for_each(array({above}.{key}) ?? []) -> |_i, item{at}| {{")
            above = f"item{at}"
    closing = "}" * (len(lines) - 1)
    return "\n".join(
        (
            *lines,
            "row = {}",
            f"for_each(array({above}.attributes) ?? []) -> |_i, one| {{",
            '  row = set!(row, [string(one.key) ?? ""], one.value.stringValue)',
            f"}}\nrows = push(rows, row)\n{closing}",
        )
    )


def _vrl_check(field: dict[str, Any]) -> str:
    if "values" in field:
        return f"includes({json.dumps(field['values'], ensure_ascii=False)}, v)"
    if "pattern" in field:
        return f"match(string(v) ?? \"\", r'^(?:{field['pattern']})$')"
    return '(is_ipv4(string(v) ?? "") || is_ipv6(string(v) ?? ""))'


def _vrl_program(shape: str, fields: Fields, *, checks: bool) -> str:
    """Return the program for a shape. With checks, records are sorted as members of an object."""
    steps = []
    for name, field in fields.items():
        test = f" && {_vrl_check(field)}" if checks else ""
        steps.append("  found = null")
        for path in field["paths"]:
            steps.append(f"  v = get(row, {json.dumps(path)}) ?? null")
            steps.append(f"  if found == null && v != null{test} {{ found = v }}")
        steps.append(f"  if found != null {{ out = set!(out, [{json.dumps(name)}], found) }}")
    body, none, keep, kept = "\n".join(steps), "[]", "push(kept, out)", "kept"
    if checks:
        none, keep, kept = "{}", "set!(kept, [encode_json(out)], out)", "values(kept)"
    return (
        'doc = parse_json(string(.message) ?? "") ?? {}\n'
        f"{_vrl_rows(shape)}\nkept = {none}\n"
        f"for_each(rows) -> |_i, row| {{\n  out = {{}}\n{body}\n  kept = {keep}\n}}\n"
        f'. = {{"out": encode_json({kept})}}'
    )


def _vrl(variant: Variant, spec: Spec) -> Program:
    """The listed fields; in the strongest variant only if they match, and with sorted records."""
    from vector_vrl import execute_vrl  # noqa: PLC0415

    checks = variant == "strongest"
    programs = {shape: _vrl_program(shape, of, checks=checks) for shape, of in spec.items()}

    def run(shape: str, texts: list[str]) -> list[str]:
        results = execute_vrl(programs[shape], [json.dumps({"message": text}) for text in texts])
        return ["" if "error" in each else str(each.get("out", "")) for each in results]

    return Program(_by_shape(run), programs["meeting"], version("vector-vrl"))


# -- Fluent Bit ------------------------------------------------------------------------------------

_ID = "number"
_MEMBERS = {
    "meeting": ("client", "device", "os"),
    "webrtc": (),
    "vendor": ("participants",),
    **{shape: path[:1] for shape, path in _ITEMS.items()},
}


def _fluent_filters(shape: str, fields: Fields, *, checks: bool) -> str:
    allowed = "".join(f"    allowlist_key {key}\n" for key in (*_MEMBERS[shape], _ID))
    text = f"[FILTER]\n    name record_modifier\n    match *\n{allowed}"
    for name in fields if checks and shape == "meeting" else ():
        first, *others = name.split(".")
        accessor = f"${first}" + "".join(f"['{key}']" for key in others)
        rule = f"exclude {accessor} ${{{name.replace('.', '_')}}}"
        text += f"[FILTER]\n    name grep\n    match *\n    {rule}\n"
    return text


def _fluent_variables(fields: Fields) -> dict[str, str]:
    """Return expressions for texts that are no value of a field. They are variables, because a line
    of a configuration may not be that long."""
    found = {}
    for name, field in fields.items():
        values = "|".join(map(re.escape, field.get("values", ())))
        known = values or field.get("pattern", "[0-9a-fA-F:.]{2,45}")
        found[name.replace(".", "_")] = f"^(?!(?:{known})$)"
    return found


def _fluent_bit(variant: Variant, spec: Spec) -> Program:
    """Its tail input with a JSON parser, and record_modifier's allowlist, which knows only
    top-level names. The strongest variant adds a ``grep`` for each listed value of a meeting: a
    record with a value that does not match is dropped as a whole. Events that are lists are not
    read."""
    usual = "/opt/fluent-bit/bin/fluent-bit"
    executable = os.environ.get("FLUENT_BIT") or shutil.which("fluent-bit") or shutil.which(usual)
    if executable is None:
        raise ImportError("fluent-bit", name="fluent-bit")
    checks = variant == "strongest"

    def run(shape: str, texts: list[str]) -> list[str]:
        with TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "parsers.conf").write_text("[PARSER]\n    name json\n    format json\n")
            with (folder / "in.ndjson").open("w", encoding="utf-8") as file:
                for number, text in enumerate(texts):
                    start = f'{{"{_ID}":{number},' if text.startswith("{") else text[:1]
                    file.write(f"{start}{text[1:]}\n")
            (folder / "all.conf").write_text(
                f"[SERVICE]\n    parsers_file {folder}/parsers.conf\n"
                f"[INPUT]\n    name tail\n    path {folder}/in.ndjson\n    read_from_head true\n"
                "    exit_on_eof true\n    parser json\n"
                f"{_fluent_filters(shape, spec[shape], checks=checks)}"
                f"[OUTPUT]\n    name file\n    match *\n    path {folder}\n    file out\n"
                "    format plain\n"
            )
            command = [executable, "--quiet", "-c", str(folder / "all.conf")]
            variables = os.environ | _fluent_variables(spec[shape])
            subprocess.run(command, capture_output=True, check=True, env=variables)
            outputs, written = [""] * len(texts), folder / "out"
            lines = written.read_text(encoding="utf-8").splitlines() if written.exists() else []
        for event in map(json.loads, lines):
            number = event.pop(_ID, None)
            if number is not None:
                outputs[number] = json.dumps(event, ensure_ascii=False)
        return outputs

    told = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True)
    shown = _fluent_filters("meeting", spec["meeting"], checks=checks)
    for name, text in _fluent_variables(spec["meeting"]).items() if checks else ():
        shown += f"{name}={text}\n"
    first = told.stdout.partition("\n")[0].removeprefix("Fluent Bit v")
    return Program(_by_shape(run), shown, first)


# -- Presidio --------------------------------------------------------------------------------------

_PRESIDIO_MORE = (
    ("MAC_ADDRESS", r"(?i)\b[0-9a-f]{2}(?:[:-]?[0-9a-f]{2}){5}\b"),
    ("LONG_NUMBER", r"\b(?:[0-9][ -]?){9,}\b"),
)


def _walked(value: Any, change: Callable[[str], str], *, all_: bool) -> Any:
    """Return a JSON value with each text changed; with ``all_``, also names of members and
    numbers."""
    again = partial(_walked, change=change, all_=all_)
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [again(one) for one in value]
    if isinstance(value, dict):
        return {change(key) if all_ else key: again(one) for key, one in value.items()}
    if all_ and isinstance(value, int | float) and not isinstance(value, bool):
        text = json.dumps(value)
        changed = change(text)
        return value if changed == text else changed
    return value


def _presidio(variant: Variant, _spec: Spec) -> Program:
    """Its analyzer and anonymizer, with the recognizers that need no model. The strongest variant
    has no threshold, two more patterns (hardware addresses, long digits), and covers names of
    members and numbers too. It leaves addresses alone, because otherwise no listed address would
    arrive."""
    import presidio_analyzer as presidio  # noqa: PLC0415
    import spacy  # noqa: PLC0415
    from presidio_analyzer.nlp_engine import SpacyNlpEngine  # noqa: PLC0415
    from presidio_anonymizer import AnonymizerEngine  # noqa: PLC0415

    logging.disable(logging.WARNING)
    engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "blank"}])
    engine.nlp = {"en": spacy.blank("en")}  # it only splits texts into words
    registry = presidio.RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"], nlp_engine=engine)
    strongest = variant == "strongest"
    for name, text in _PRESIDIO_MORE if strongest else ():
        known = presidio.Pattern(name, text, 1.0)
        recognizer = presidio.PatternRecognizer(supported_entity=name, patterns=[known])
        registry.add_recognizer(recognizer)
    analyzer = presidio.AnalyzerEngine(registry=registry, nlp_engine=engine)
    anonymizer = AnonymizerEngine()
    left = {"IP_ADDRESS", "DATE_TIME", "URL"}
    kinds = [kind for kind in analyzer.get_supported_entities("en") if kind not in left]
    chosen, threshold = (kinds, 0.0) if strongest else (None, None)

    def clean(text: str) -> str:
        found = analyzer.analyze(text, "en", entities=chosen, score_threshold=threshold)
        return str(anonymizer.anonymize(text, found).text) if found else text

    def of(change: Callable[[str], str]) -> Callable[[list[Event]], list[str]]:
        def one(_shape: str, text: str) -> str:
            document = _walked(json.loads(text), change, all_=strongest)
            return json.dumps(document, ensure_ascii=False)

        return _each(one)

    shown = "analyze(text, language='en'), anonymize(text, results)"
    if strongest:
        patterns = ", ".join(pattern for _, pattern in _PRESIDIO_MORE)
        shown += f"; entities {', '.join(sorted(kinds))}; threshold 0; patterns {patterns}"
        shown += "; names of members and numbers, too"
    return Program(of(cache(clean)), shown, version("presidio-analyzer"), of(clean))


# -- all of them -----------------------------------------------------------------------------------

_COARSER = {
    "strongest": frozenset(["client.address", "device.model.name", "os.version", "os.build_id"])
}
"""The fields that `conferencing-strict` leaves out or makes coarser."""
_PRESIDIO = ("presidio-analyzer", "presidio-anonymizer")
CONTENDERS: tuple[Contender, ...] = (
    Contender("Collector", _collector, removes=_COARSER),
    Contender("orjson, projection by hand", _orjson, ("orjson",), has_both=True),
    Contender("pydantic models", _pydantic, ("pydantic",), has_both=True),
    Contender("jq", _jq),
    Contender("Vector's VRL, allowlist", _vrl, ("vector-vrl",), newest=True),
    Contender("Fluent Bit, allowlist", _fluent_bit),
    Contender(
        "Presidio, patterns",
        _presidio,
        _PRESIDIO,
        removes={"documented": frozenset(["client.address"])},
    ),
)

_ROOT = Path(__file__).resolve().parents[2]
BUILT = _ROOT / ".venv-leaks"
_SECONDS = 3_600
_TIMED = 100
"""The number of timed events, drawn from the whole corpus."""


def build() -> None:
    """Create every missing environment. One that cannot be created is left out."""
    names = (f"python3.{minor}" for minor in range(15, 10, -1))
    newest = next((path for name in names if (path := shutil.which(name))), sys.executable)
    for contender in CONTENDERS:
        environment = BUILT / contender.packages[0] if contender.packages else _ROOT
        if environment.exists():
            continue
        say(f"leaks: installing {', '.join(contender.packages)}")
        python = newest if contender.newest else sys.executable
        pip = [str(environment / "bin" / "python"), "-m", "pip", "--quiet", "install"]
        try:
            subprocess.run([python, "-m", "venv", str(environment)], check=True)
            subprocess.run([*pip, *contender.packages], check=True)
        except (subprocess.CalledProcessError, OSError):
            shutil.rmtree(environment, ignore_errors=True)


def run(
    contender: Contender,
    variant: Variant,
    spec: Spec,
    events: Sequence[Event],
    fluent_bit: str | None = None,
) -> Outcome | str:
    """Run a contender on events. Return the outcome, or why it cannot run here.

    Raises ``BenchmarkError`` if it fails.
    """
    python = Path(sys.executable)
    if contender.packages:
        own = BUILT / contender.packages[0] / "bin" / "python"
        if not (own.exists() or contender.has_both):
            return f"{contender.packages[0]} is not installed (`benchmarks leaks --build` does)"
        python = own if own.exists() else python
    job = {"title": contender.title, "variant": variant, "spec": spec, "events": list(events)}
    with TemporaryDirectory() as folder:
        given, told = Path(folder) / "job.json", Path(folder) / "result.json"
        given.write_text(json.dumps(job), encoding="utf-8")
        done = subprocess.run(
            [str(python), "-m", "benchmarks.leaks.contenders", str(given), str(told)],
            cwd=_ROOT,
            env=os.environ | ({"FLUENT_BIT": fluent_bit} if fluent_bit else {}),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        if done.returncode:
            last = done.stderr.strip().rpartition("\n")[2]
            raise BenchmarkError(f"{contender.title}, {variant}: {last}")
        result = json.loads(told.read_text(encoding="utf-8"))
    return str(result["missing"]) if "missing" in result else Outcome(**result)


def _seconds() -> float:
    """Return the CPU time of this process and of children that it has waited for."""
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in both)


def _work(job: dict[str, Any]) -> dict[str, Any]:
    make = next(each.make for each in CONTENDERS if each.title == job["title"])
    try:
        program = make(job["variant"], job["spec"])
    except ImportError as error:
        return {"missing": f"{error.name} is not installed"}
    events = [(shape, text) for shape, text in job["events"]]
    timed, sample = program.timed or program.run, events[:: 1 + len(events) // _TIMED]
    timed(sample)  # it may cache things
    before = _seconds()
    timed(sample)
    spent = _seconds() - before
    return {
        "outputs": program.run(events),
        "us": spent / max(1, len(sample)) * 1e6,
        "peak_mb": peak_mb(),
        "configuration": program.configuration,
        "version": program.version,
    }


def main() -> None:
    """Run the job in the arguments."""
    given, told = map(Path, sys.argv[1:])
    result = _work(json.loads(given.read_text(encoding="utf-8")))
    told.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
