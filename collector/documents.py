"""Read documents: YAML into models and settings, with every fault at its line and column.

Schemas, configurations, claims, approved copies and phrases are read here. ``read`` turns a file
into a ``Document``: plain values, and the place of each key and value. ``validate`` turns a part of
it into a model and reports all faults. ``Layers`` does the same for settings, whose values come
from a document or from arguments, and from the environment above it.

The values of a shipped document are kept beside it in JSON (``parsed``), because parsing YAML takes
most of the time in which a command starts; the YAML is parsed only to locate a fault.

Only JSON data is accepted: anchors, aliases, merge keys and tags are refused (an alias can make a
small file enormous), and so are numbers and texts that JSON cannot carry. A key written twice is a
fault, not a quiet overwrite. Size, depth and number of values are limited.

No message quotes a value, because a secret may be in the wrong line. So pydantic's own texts are
not used: validators raise ``fault``, whose text is a constant, and ``explain`` words the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, get_args

import orjson
from pydantic import VERSION, BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError

from collector.errors import CODES, Fault
from collector.units import size_text

MAX_BYTES = 256 << 10
"""The most bytes of a document, unless its reader allows more."""
ENVIRONMENT = "environment"
"""The name of the environment in faults and origins."""
BUILDS_LATER = tuple(map(int, VERSION.split(".")[:2])) >= (2, 14)
"""Whether a model is built on first use, so that a process starts faster: a worker needs none, and
most schemas few. In older versions of pydantic, two threads cannot safely build one."""

_KEPT = "parsed.json"
_MAX_DEPTH = 64
_MAX_NODES = 20_000
_MAX_SHOWN = 80
_LIKENESS = 0.8
"""How similar to a known word a key must be to be quoted: a secret may be in the place of a key."""

Loc = tuple[str | int, ...]
"""A location in a document: keys and list indices from the top."""
Place = tuple[int, int]
"""Line and column, counted from 1."""
_M = TypeVar("_M", bound=BaseModel)


class Part(BaseModel):
    """A part of a document; unknown keys are faults."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", frozen=True, strict=True, defer_build=BUILDS_LATER
    )


def nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Return a "did you mean" with the nearest known word after a prefix, or an empty text."""
    from difflib import get_close_matches  # noqa: PLC0415 - only for a fault

    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean `{prefix}{close[0]}`?" if close else ""


def resembles(word: str, known: Iterable[str]) -> bool:
    """Return whether a word is so similar to a known one that it is a typo, not a secret."""
    from difflib import get_close_matches  # noqa: PLC0415 - only for a fault

    return bool(get_close_matches(word, list(known), n=1, cutoff=_LIKENESS))


# -- documents -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Document:
    """A document as plain values (``None`` if it could not be read), with positions: ``places`` of
    keys and of items of lists, ``values`` of the values behind the keys. ``start`` is where it
    begins: (0, 0) for values without a file."""

    file: str
    directory: Path | None = None
    value: Any = None
    places: dict[Loc, Place] = field(default_factory=dict)
    values: dict[Loc, Place] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    unread: set[Loc] = field(default_factory=set)
    start: Place = (1, 1)
    unplaced: bytes | None = None
    """The YAML source of values that were read from JSON, until a fault needs their positions."""

    def fault(self, loc: Loc, code: str, message: str) -> Fault:
        """Make a fault at a place, or at the nearest enclosing place that is known."""
        if self.unplaced is not None:
            data, self.unplaced = self.unplaced, None
            read_bytes(data, self)
        known = loc = self._written(loc)
        while known and known not in self.places:
            known = known[:-1]
        line, column = self.places.get(known, self.start)
        return Fault(self.file, line, column, ".".join(map(_shown, loc)), message, code)

    def _written(self, loc: Loc) -> Loc:
        """Return a place without the index of a single item that is written without a list."""
        is_item = len(loc) > 1 and type(loc[1]) is int and isinstance(self.value, dict)
        if is_item and not isinstance(self.value.get(loc[0]), list):
            return (loc[0], *loc[2:])
        return loc

    def report(self, loc: Loc, code: str, message: str) -> None:
        """Record a fault, unless the value there could not be read."""
        if loc not in self.unread:
            self.faults.append(self.fault(loc, code, message))

    def refuse(self, loc: Loc, code: str, message: str) -> None:
        """Record the one fault of a value that cannot be read."""
        self.report(loc, code, message)
        self.unread.add(loc)

    def all_faults(self) -> list[Fault]:
        """Return the faults by line and column, without repetitions."""
        return sorted(dict.fromkeys(self.faults), key=lambda each: (each.line, each.column))


def _shown(part: str | int) -> str:
    """Clean a key for a message: on one line, without control characters."""
    text = str(part)
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def read(path: Path, file: str = "") -> Document:
    """Read a YAML file. Faults call it ``file``, by default its path. Raises nothing."""
    document = Document(file or str(path))
    try:
        document.directory = path.resolve().parent
        with path.open("rb") as handle:
            data = handle.read(MAX_BYTES + 1)
    except FileNotFoundError:
        document.start = 0, 0
        document.report((), "E101", "there is no such file; check the path")
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL in the path
        document.start = 0, 0
        document.report((), "E101", "the file cannot be read; check the path and its permissions")
    else:
        document.value = _kept(data, document.directory)
        if document.value is None:
            return read_bytes(data, document)
        document.unplaced = data
    return document


@cache
def shipped() -> Path:
    """Return the directory of the shipped documents: ``collector/schemas`` in an installed wheel,
    the top-level ``schemas`` in a clone."""
    package = Path(__file__).resolve().parent
    wheel = package / "schemas"
    return wheel if wheel.is_dir() else package.parent / "schemas"


def _kept(data: bytes, directory: Path) -> Any:
    """Return the values kept for a shipped document, or ``None`` if any of its bytes has
    changed."""
    if shipped() not in (directory, *directory.parents):
        return None
    try:
        kept = orjson.loads((shipped() / _KEPT).read_bytes())
        return kept.get(sha256(data).hexdigest())
    except (OSError, ValueError):  # it is missing or damaged
        return None


def parsed() -> bytes:
    """Parse every shipped document, and return the file in which ``read`` finds their values."""
    texts = [path.read_bytes() for path in sorted(shipped().rglob("*.yaml"))]
    found = {sha256(data).hexdigest(): read_bytes(data, Document("")).value for data in texts}
    return orjson.dumps(found, option=orjson.OPT_APPEND_NEWLINE)


def read_bytes(data: bytes, document: Document, most: int = MAX_BYTES) -> Document:
    """Fill a document from YAML of at most ``most`` bytes, and return it."""
    if len(data) > most:
        document.report((), "E101", f"the file is too large; the limit is {size_text(most)}")
        return document
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        document.report((), "E101", "the file is not UTF-8; save it as UTF-8")
        return document
    return read_text(text, document)


def read_text(text: str, document: Document) -> Document:
    """Fill a document from YAML text, and return it."""
    from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: PLC0415 - it loads slowly
    from ruamel.yaml.reader import ReaderError  # noqa: PLC0415 - as above

    (line, column), message = document.start, _UNPARSED
    try:
        tokens = iter(list(_tokens(text, document)))
        if not document.faults:
            first = next(tokens, None)
            document.value = {} if first is None else _plain(first, tokens, (), document)
        return document
    except MarkedYAMLError as error:
        if mark := error.problem_mark or error.context_mark:
            line, column = mark.line + 1, mark.column + 1
            if text.split("\n")[mark.line].lstrip(" ").startswith("\t"):
                message = "this line begins with a tab; indent YAML with spaces"
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        message = "a control character is here; delete it"
    except (YAMLError, RecursionError, ValueError):
        message = "this is not valid YAML"
    document.faults.append(Fault(document.file, line, column, "", message, "E102"))
    return document


# -- YAML ------------------------------------------------------------------------------------------

_UNPARSED = "this is not valid YAML; check the indentation, quotes and brackets here"

# The YAML 1.2 core schema (section 10.3.2), whatever version a %YAML directive asks for. Patterns
# are compiled when they are needed: most processes read no YAML.
_NULL = frozenset(["", "~", "null", "Null", "NULL"])
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_WHOLE = r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
_NOT_FINITE = r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_HALF_A_PAIR = "[\ud800-\udfff]"
_HIDDEN = (
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e01ef]"
)
"""Control characters except tab and line feed, and characters that reverse or hide text: a terminal
or a reviewer would see something else than the file says."""
_HIDDEN_MESSAGE = "a control character, or one that reverses or hides text, is here; delete it"


def is_visible(text: str) -> bool:
    """Return whether a text is one line without hidden or control characters."""
    return text.isprintable() and not re.search(_HIDDEN, text)


def without_hidden(text: str) -> str:
    """Return a text without control characters, and without those that reverse or hide text."""
    return re.sub(_HIDDEN, "", text)


class _Token(NamedTuple):
    """A scalar, the beginning of a collection, or its end."""

    kind: Literal["scalar", "mapping", "list", "end"]
    place: Place = (1, 1)
    text: str = ""
    is_plain: bool = False
    is_blank: bool = False


_END = _Token("end")


def _tokens(text: str, document: Document) -> Iterator[_Token]:
    """Parse the text. Anything that JSON lacks, a second document, and anything beyond the limits
    is a fault; then the document has no value."""
    from ruamel.yaml import YAML, events  # noqa: PLC0415 - it loads slowly

    depth = nodes = documents = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        place = event.start_mark.line + 1, event.start_mark.column + 1
        refused = None
        documents += isinstance(event, events.DocumentStartEvent)
        if isinstance(event, events.DocumentStartEvent) and documents == 2:
            refused = "E102", "a second YAML document begins here; put it into a file of its own"
        elif isinstance(event, events.CollectionEndEvent):
            depth -= 1
            yield _END
        elif isinstance(event, events.NodeEvent):
            nodes += 1
            depth += isinstance(event, events.CollectionStartEvent)
            token = _token(event, place, events)
            refused = _refusal(event, token)
            yield token
        if depth > _MAX_DEPTH or nodes > _MAX_NODES:
            refused = (
                "E102",
                f"a document may have {_MAX_DEPTH} levels and {_MAX_NODES} values at most",
            )
        if refused is not None:
            code, message = refused
            document.faults.append(Fault(document.file, *place, "", message, code))
        if depth > _MAX_DEPTH or nodes > _MAX_NODES:
            return


def _refusal(event: Any, token: _Token) -> tuple[str, str] | None:
    if event.anchor or str(getattr(event, "ctag", "")) not in ("", "None"):
        return "E102", "YAML anchors, aliases and tags are not allowed; write the value itself"
    if token.is_plain and token.text == "<<":
        return "E102", "YAML merge keys (`<<`) are not allowed; write the keys themselves"
    return None


def _token(event: Any, place: Place, events: Any) -> _Token:
    if isinstance(event, events.CollectionStartEvent):
        is_mapping = isinstance(event, events.MappingStartEvent)
        return _Token("mapping" if is_mapping else "list", place)
    if not isinstance(event, events.ScalarEvent):  # an alias, which is refused
        return _Token("scalar", place)
    is_blank = event.start_mark == event.end_mark
    return _Token("scalar", place, str(event.value), not event.style, is_blank)


def _parts(tokens: Iterator[_Token]) -> Iterator[_Token]:
    """Yield the first token of each part of a collection. The caller reads the rest of the part."""
    for token in tokens:
        if token is _END:
            return
        yield token


def _skip(token: _Token, tokens: Iterator[_Token]) -> None:
    if token.kind != "scalar":
        for part in _parts(tokens):
            _skip(part, tokens)


def _plain(token: _Token, tokens: Iterator[_Token], loc: Loc, document: Document) -> Any:
    place = document.places.setdefault(loc, token.place)
    document.values[loc] = place if token.is_blank else token.place
    if token.kind == "scalar":
        return _scalar(token, loc, document)
    if token.kind == "mapping":
        return dict(_members(tokens, loc, document))
    parts = enumerate(_parts(tokens))
    return [_plain(part, tokens, (*loc, index), document) for index, part in parts]


def _members(tokens: Iterator[_Token], loc: Loc, document: Document) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for key in _parts(tokens):
        inner = (*loc, key.text)
        if key.kind != "scalar" or re.search(_HALF_A_PAIR, key.text):
            where = document.fault(loc, "E107", "a key must be plain text")
            line, column = key.place
            document.faults.append(where._replace(line=line, column=column))
            _skip(key, tokens)
            _skip(next(tokens), tokens)
            continue
        document.places[inner] = key.place
        if not is_visible(key.text):
            document.report(inner, "E107", _HIDDEN_MESSAGE)
        elif key.text in seen:
            document.report(inner, "E122", "this key is here twice; delete one of them")
        else:
            seen.add(key.text)
            yield key.text, _plain(next(tokens), tokens, inner, document)
            continue
        _skip(next(tokens), tokens)


def _scalar(token: _Token, loc: Loc, document: Document) -> Any:
    """Return a scalar by the core schema; dates stay text."""
    text = token.text
    if re.search(_HALF_A_PAIR, text):
        message = "half a surrogate pair is not text; write the character itself"
        document.refuse(loc, "E107", message)
        return ""
    if re.search(_HIDDEN, text):
        document.refuse(loc, "E107", _HIDDEN_MESSAGE)
        return re.sub(_HIDDEN, "", text)
    if not token.is_plain:
        return text
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if not re.fullmatch(f"{_WHOLE}|{_FLOAT}|{_NOT_FINITE}", text):
        return text
    number = _number(text)
    if number is None:
        document.refuse(loc, "E107", "a number must be finite and have at most 64 bits")
        return 0
    return number


def _number(text: str) -> int | float | None:
    """Return a number that JSON can carry: an integer of 64 bits or a finite double."""
    if not re.fullmatch(_WHOLE, text):
        number = float("nan") if re.fullmatch(_NOT_FINITE, text) else float(text)
        return number if isfinite(number) else None
    if len(text) > 64:
        return None
    whole = int(text, 0) if text[1:2] in ("o", "x") else int(text)
    return whole if -(1 << 63) <= whole < 1 << 64 else None


# -- models ----------------------------------------------------------------------------------------

_WRONG_TYPE = {
    "string_type": "a text; put quotes around a number or a date",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    **dict.fromkeys(["list_type", "tuple_type"], "a list, such as `[a, b]`"),
    **dict.fromkeys(
        ["dict_type", "mapping_type", "model_type", "model_attributes_type"],
        "a mapping of keys to values, such as `{a: 1}`",
    ),
}
_LIMITS = {
    "ge": "at least",
    "gt": "more than",
    "le": "at most",
    "lt": "less than",
    "min_length": "at least",
    "max_length": "at most",
}
_NUMBERS = ("greater", "less", "finite", "int_", "float_")
_LENGTHS = {"string": " characters", "too": " entries"}


def fault(code: str, message: str, *about: str) -> PydanticCustomError:
    """Make an error that carries one of our codes through pydantic. ``about`` are the keys from the
    validated value to the faulty part."""
    return PydanticCustomError(code, message, {"about": about} if about else None)


def explain(detail: ErrorDetails, written: Callable[[Any], object] = str) -> tuple[str, str]:
    """Return the code and the text of a pydantic error; ``written`` formats a limit."""
    kind, context = detail["type"], detail.get("ctx") or {}
    if kind in CODES:
        return kind, detail["msg"]
    if kind == "missing":
        return "E106", f"`{detail['loc'][-1]}` is missing; add it"
    if kind == "literal_error":
        expected = str(context.get("expected")).replace("'", "`")
        return "E107", f"this must be {'one of ' * (' or ' in expected)}{expected}"
    if kind in _WRONG_TYPE:
        return "E107", f"this must be {_WRONG_TYPE[kind]}"
    known = [key for key in _LIMITS if key in context]
    limits = " and ".join(f"{_LIMITS[key]} {written(context[key])}" for key in known)
    if kind.startswith(_NUMBERS):
        return "E107", f"this must be {limits or 'a smaller number'}"
    if limits:
        return "E107", f"this must have {limits}{_LENGTHS.get(kind.partition('_')[0], '')}"
    return "E107", "this value cannot be read; see the documentation"


def validate(model: type[_M], value: Any, loc: Loc, document: Document) -> _M | None:
    """Validate a part of the document; report its faults and return ``None`` if it has any.

    A blank key is a fault: a blank limit does not mean no limit.
    """
    part, details = None, []
    try:
        text = orjson.dumps(value)
        part = model.model_validate_json(text, strict=True, context=document.directory)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
    for detail in details:
        document.report(*_placed(detail, model, loc, value))
    options = fields_by_key(model)
    blank = {
        key
        for key, member in (value.items() if isinstance(value, dict) else ())
        if member is None and key in options and options[key].default is None
    }
    blank -= {detail["loc"][0] for detail in details if detail["loc"]}
    for key in sorted(blank):
        document.report((*loc, key), "E107", "no value is given; write one, or delete the key")
    return None if details or blank else part


def fields_by_key(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return pydantic's ``FieldInfo`` of a model's fields, by the keys of a document."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _placed(
    detail: ErrorDetails, model: type[BaseModel], loc: Loc, value: Any
) -> tuple[Loc, str, str]:
    inner = _inner(detail["loc"], value)
    place = (*loc, *inner)
    if detail["type"] == "extra_forbidden":
        known = fields_by_key(_within(model, detail["loc"][:-1]))
        hint = nearest(str(inner[-1]), known) or f"; the keys are {', '.join(known)}"
        return place, "E105", f"there is no such key here{hint}"
    code, message = explain(detail)
    return (*place, *(detail.get("ctx") or {}).get("about", ())), code, message


def _inner(loc: Loc, value: Any) -> Loc:
    """Return the keys and indices of a pydantic location, without its marks for unions."""
    inner: list[str | int] = []
    for part in loc:
        known = range(len(value)) if isinstance(value, list) else value
        if isinstance(known, dict | range) and part in known:
            inner.append(part)
            value = value[part]
    return tuple(inner)


def _within(model: type[BaseModel], loc: Loc) -> type[BaseModel]:
    """Return the model at a pydantic location."""
    for part in loc:
        info = fields_by_key(model).get(str(part))
        model = (info and _model_in(info.annotation)) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


# -- JSON Schema -----------------------------------------------------------------------------------

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Hint:
    """JSON Schema keywords for a type that pydantic does not know, for editors. They may be looser
    than the validator, but never stricter: an editor must not underline what loads. Patterns use
    only syntax with one meaning in Python and ECMAScript."""

    def __init__(self, **keywords: Any) -> None:
        self.keywords = keywords

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), **self.keywords}


LISTED = Hint(minItems=1, uniqueItems=True)


def pattern(text: str, message: str, **more: Any) -> Hint:
    """Return the hint for a text that must match as a whole, with the message if it does not."""
    return Hint(pattern=f"^{text}$", patternErrorMessage=message, **more)


def editor_schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the documents that a model reads, for editors."""
    found = model.model_json_schema(by_alias=True)
    return {"$schema": DIALECT, "title": title, **_written(found, found.get("$defs", {}))}


def _written(node: Any, defs: Mapping[str, Any]) -> Any:
    """Remove generated titles, and null, because a blank key is a fault."""
    if isinstance(node, list):
        return [_written(part, defs) for part in node]
    if not isinstance(node, dict):
        return node
    if defs.get(str(node.get("$ref")).removeprefix("#/$defs/")) == {}:  # any value
        node = {key: value for key, value in node.items() if key != "$ref"}
    plain: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("properties", "$defs"):
            parts = {name: _written(part, defs) for name, part in value.items()}
            plain[key] = {name: part for name, part in parts.items() if part or key != "$defs"}
        elif key == "description":
            plain[key] = " ".join(value.replace("``", "`").split())
        elif key != "title" and not (key == "default" and value in (None, [], {})):
            plain[key] = _written(value, defs)
    for form, value in plain.pop("patternProperties", {}).items():  # which others would pass by
        plain["propertyNames"] = {**plain.get("propertyNames", {}), "pattern": form}
        plain["additionalProperties"] = value
    choices = [part for part in plain.pop("anyOf", []) if part != {"type": "null"}]
    if len(choices) == 1:
        return choices[0] | plain
    return plain | ({"anyOf": choices} if choices else {})


# -- settings --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Layers:
    """Settings of a document, overridden by the environment, and their faults.

    ``see`` is the page with all settings; ``words`` are the keys that a fault may name. ``written``
    formats a setting's limit in the notation of the document.
    """

    document: Document
    see: str
    written: Callable[[FieldInfo, Any], object]
    words: frozenset[str] = frozenset()
    values: dict[Loc, Any] = field(default_factory=dict)
    from_environment: set[Loc] = field(default_factory=set)
    faulty: set[Loc] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)

    def take_environment(
        self, environ: Mapping[str, str], prefix: str, known: Mapping[str, Loc]
    ) -> None:
        """Read the variables with this prefix; an unknown setting is a fault."""
        for name in sorted(environ):
            if name in known:
                self.values[known[name]] = environ[name]
                self.from_environment.add(known[name])
            elif name.startswith(prefix):
                rest = name.removeprefix(prefix)
                ends = [each.removeprefix(prefix) for each in known]
                hint = nearest(rest, ends, prefix) or f"; see {self.see}"
                is_shown = "…" not in self.shown(tuple(rest.lower().split("__")))
                shown = name if is_shown else f"{prefix}…"
                message = f"no setting has this environment variable{hint}"
                self.faults.append(Fault(ENVIRONMENT, 0, 0, shown, message, "E105"))

    def build(self, model: type[_M], loc: Loc = (), parts: Mapping[str, Any] | None = None) -> _M:
        """Build a model from the settings of a section and from valid ``parts``, with defaults in
        place of faulty settings.

        Raises ``ValidationError`` if a setting without a default is faulty or missing.
        """
        found: dict[str, Any] = dict(parts or {})
        infos = fields_by_key(model)
        for key in infos:
            if (inner := (*loc, key)) in self.values and self._is_written(inner):
                found[key] = self.values[inner]
        details: list[ErrorDetails] = []
        try:
            return model(**found)
        except ValidationError as error:
            details = error.errors(include_input=False, include_url=False)
        for detail in details:
            self._report_detail(detail, loc, infos)
        return model(**{key: of for key, of in found.items() if (*loc, key) not in self.faulty})

    def _is_written(self, loc: Loc) -> bool:
        value = self.values[loc]
        if value is None or (loc in self.from_environment and value == ""):
            self.report(loc, "E107", "no value is given; write one, or delete the key")
            return False
        return True

    def _report_detail(
        self, detail: ErrorDetails, loc: Loc, infos: Mapping[str, FieldInfo]
    ) -> None:
        if not detail["loc"]:
            is_ours = detail["type"] in CODES  # the text of another may quote a value
            message = detail["msg"] if is_ours else "these settings do not fit together"
            self.report(loc, "E107", message)
            return
        key = str(detail["loc"][0])
        code, message = explain(detail, partial(self.written, infos[key]))
        self.report((*loc, key), code, message, (*loc, *detail["loc"]))

    def report(self, loc: Loc, code: str, message: str, item: Loc = ()) -> None:
        """Record a fault of one setting and skip its further checks. ``item`` is the faulty part of
        its value."""
        self.faulty.add(loc)
        self.add(loc, code, message, item)

    def add(self, loc: Loc, code: str, message: str, item: Loc = ()) -> None:
        """Record a fault where the setting was written."""
        name, document = self.shown(loc), self.document
        if loc in self.from_environment:
            self.faults.append(Fault(ENVIRONMENT, 0, 0, name, message, code))
            return
        found = document.fault(loc, code, message)._replace(field=name)
        if loc in document.values and code != "E105":  # an unknown setting has its fault at the key
            line, column = document.values.get(item or loc, document.values[loc])
            found = found._replace(line=line, column=column)
        self.faults.append(found)

    def shown(self, loc: Loc) -> str:
        """Name a setting, without keys that resemble no known key."""
        return ".".join(
            str(part) if part in self.words or resembles(str(part), self.words) else "…"
            for part in loc
        )

    def origin(self, loc: Loc) -> str:
        """Return where a setting comes from: ``default``, ``environment``, file and line, or
        ``arguments``."""
        if loc in self.from_environment:
            return ENVIRONMENT
        if loc not in self.values:
            return "default"
        place = self.document.places.get(loc)
        return f"{self.document.file}:{place[0]}" if place else self.document.file
