"""Faulty schema documents. Each carries its faults as marks, see ``tests.support.make_schemas``."""

from __future__ import annotations

import re

from tests.support.make_schemas import HEAD, PLAIN, REST, content, one, trial

_LONG = "x" * 65
_NUMBER = "kind: number, minimum: 0, maximum: 1"
_KEY = "kind: pseudonym, rotate: 1d"
_TEXT = "kind: token, pattern: '[0-9]{3}'"
_COUNT = "kind: integer, minimum: 0, maximum: 9, step: 1"
_MANY = [f"v{number}" for number in range(65)]
_NAMES = ("os.build_id", "hw.model", "device.brand", "device.class")


def _purpose(text: str) -> str:
    return PLAIN.replace("fields:", f"  more: {text}\nfields:")


_CHOICE = "essential.service.operations, basis: consent, optional: true, reason: We would like to"


def _optional(number: int) -> str:
    text = PLAIN
    for at in range(number):
        text = text.replace("fields:", f"  more{at}: {{use: {_CHOICE}}}\nfields:")
    return text


_OPTIONAL = _optional(1)


def _use(use: str) -> str:
    return _purpose(f"{{{use}, basis: contract, reason: We would like to}}")


def _instead(member: str) -> str:
    """A field with another category, retention, … than usual."""
    key = re.sub("«.*?»", "", member).partition(":")[0]
    others = [part for part in REST.split(", ") if not part.startswith(key)]
    return one(f"kind: boolean, {member}", rest=", ".join(others))


def _without(key: str) -> str:
    rest = ", ".join(part for part in REST.split(", ") if not part.startswith(key))
    return one("kind: boolean", "«E106»os.name", rest)


def _paths(paths: str, kind: str = "kind: boolean") -> str:
    return one(f"{kind}, from: {paths}")


def _pattern(pattern: str, code: str = "E116") -> str:
    return one(f"kind: token, «{code}»pattern: '{pattern}'")


TABLE: dict[str, str] = {
    # what a proposal leaves to its author
    "a title to write": PLAIN.replace("title: A sample", "«E106»title: FILL IN what this is"),
    "a reason to write": one(
        "kind: boolean", rest=REST.replace("reason: Which", "«E106»reason: FILL IN Which")
    ),
    "a sentence to write": f'{PLAIN}also_collected: {{«E106»quality: "FILL IN"}}\n',
    "a purpose to explain": _purpose(
        "{use: essential.service.operations, basis: contract, «E106»reason: FILL IN why}"
    ),
    # the file
    "nothing at all": "«E106»",
    "only null": "«E107»~",
    "a list": "«E107»- schema: sample",
    "a text": "«E107»sample",
    "an open bracket": f"{PLAIN}content: {{chat: [a\n«E102»",
    "no text": "«E101»\udcff",
    "text of two megabytes": "«E101»" + "# all of it\n" * 200_000,
    "too many values": "a: [" + "a," * 19_997 + "«E102»a, a]",
    "a tab for indentation": f"{PLAIN}content:\n«E102»\tchat: [a]\n",
    "two documents": f"{PLAIN}«E102»---\nschema: other\n",
    "a control character": f"{HEAD}title: a«E102»\x07",
    "nested too deeply": "a: " + "[" * 63 + "«E102»" + "[" * 300,
    "half a surrogate pair": PLAIN.replace("title: A sample", '«E107»title: "\\ud800"'),
    "half a surrogate pair as a key": f'{PLAIN}«E107»"\\udfff": 1\n',
    "a list as a key": f"{PLAIN}? «E107»[a]\n: 1\n",
    "the same key twice": f"{PLAIN}«E122»title: Another\n",
    "the same key twice, deep inside": one("kind: boolean, «E122»kind: ip"),
    "an anchor and an alias": f"{PLAIN}content: {{chat: «E102»&a [b], file: «E102»*a}}\n",
    "a merge key": f"{PLAIN}«E102»<<: {{max_bits: 1}}\n",
    "a tag": f"{PLAIN}max_bits: «E102»!!int 3\n",
    "a tag of its own": f"{PLAIN}max_bits: «E102»!python/object:os.system 3\n",
    "a number of 65 bits": f"{PLAIN}«E107»max_bits: 18446744073709551616\n",
    "a number of 5000 digits": f"{PLAIN}«E107»max_bits: {'9' * 5000}\n",
    "not a number": f"{PLAIN}«E107»max_bits: .NaN\n",
    "an infinite number": trial("{name: big, keeps: {}, event: {«E107»a: 1e999}}"),
    # the head
    "unknown keys": f"{PLAIN}«E105?owner»ownr: me\n«E105?records»record: a\n«E105»zzz: 1\n",
    "a key called [key]": f'{PLAIN}«E105»"[key]": 1\n',
    "keys of the head are missing": "«E106»«E106»«E106»«E106»" + PLAIN[PLAIN.index("purposes:") :],
    "no purposes, no fields": "«E106»«E106»" + HEAD[: HEAD.index("purposes:")],
    "numbers for texts": PLAIN.replace("title: A sample", "«E107»title: 1.0").replace(
        "version: 1.0.0", "«E107»version: 1.0"
    ),
    "lists and texts for mappings": HEAD.replace("owner: privacy", "«E107»owner: [privacy]")
    + "«E107»fields: [os.type]\n«E107»content: chat\n«E107»tests: {}\n«E107»records: 7\n",
    "left blank": f"{PLAIN}«E107»max_bits:\n«E107»records:\n«E107»tests:\n",
    "a name in capitals": PLAIN.replace("schema: sample", "«E107»schema: Sample"),
    "a name too long": PLAIN.replace("schema: sample", f"«E107»schema: {_LONG}"),
    "a name of SQLite's own": PLAIN.replace("schema: sample", "«E107»schema: sqlite_stuff"),
    "a title of dots": PLAIN.replace("title: A sample", "«E107»title: ..."),
    "a version of two parts": PLAIN.replace("1.0.0", '"1.0"').replace("ver", "«E107»ver"),
    "a version with a zero in front": PLAIN.replace("ver", "«E107»ver").replace("1.0.0", "01.0.0"),
    "a language to come": f"«E107»language: 2\n{PLAIN}",
    "a language that is true": f"«E107»language: true\n{PLAIN}",
    "a width of nothing": f"{PLAIN}«E107»max_bits: 0\n",
    "a width too great": f"{PLAIN}«E107»max_bits: 65537\n",
    "a width in fractions": f"{PLAIN}«E107»max_bits: 1.5\n",
    "no fields": f"{HEAD}«E106»fields: {{}}\n",
    "wider than allowed": one("kind: ip") + "«E307»max_bits: 1\n",
    "a path of records with a gap": f"{PLAIN}«E107»records: a..b\n",
    "records are content": f"{PLAIN}«E305»records: messages\n",
    "paths of records with stars": (
        f"{PLAIN}records: [a, «E107»'a.*.b', «E107»a.*.*, «E107»'**', a.*, .]\n"
    ),
    "a map of events beside another path": f"{PLAIN}records: [a, «E122»'*']\n",
    "a path of records twice": f"{PLAIN}«E107»records: [a, a]\n",
    "one of the paths of records is content": f"{PLAIN}records: [a, «E305»'[2].sdp.*']\n",
    "a list of records is read by index": _paths("[«E122»'[2]', '[2].x']") + "records: ['[2].*']\n",
    "records are read as a field": _paths("[ppl, «E122»who.x]") + "records: who\n",
    "a field lies around the records": _paths("[«E122»ppl]") + "records: ppl.list\n",
    # purposes
    "an unknown key of a purpose": _purpose(
        "{use: essential.service.security, basis: contract, reason: Because,"
        " «E105?optional»option: true}"
    ),
    "a purpose with nothing": _purpose("{}").replace("more", "«E106»«E106»«E106»more"),
    "an option of a field in a purpose": _purpose(
        "{use: essential.service.security, basis: contract, reason: Because, «E105»values: [a]}"
    ),
    "a purpose that is a text": _purpose("security").replace("more", "«E107»more"),
    "a purpose in capitals": _purpose(
        "{use: essential.service.security, basis: contract, reason: Because}"
    ).replace("more", "«E107»More"),
    "no such basis": PLAIN.replace("basis: contract", "«E107»basis: because"),
    "optional: perhaps": PLAIN.replace("basis: contract", "basis: contract, «E107»optional: 1"),
    "a reason of nothing": PLAIN.replace("reason: Keep the call up", "«E107»reason: '...'"),
    "use for advertising": _use("«E301»use: marketing.advertising.first_party.targeted"),
    "use by others": _use("«E301»use: third_party_sharing"),
    "use for training": _use("«E301»use: train_ai_system"),
    "use for profiles": _use("«E301»use: personalize.content.profiling"),
    "use for sale": _use("«E301»use: sales"),
    "use for everything": _use("«E301»use: essential"),
    "use with a star": _use("«E302»use: essential.service.*"),
    "use misspelled": _use("«E302?essential.service.security»use: essential.service.securty"),
    # what every field has
    "fields that are nothing": f"{HEAD}fields:\n  «E107»a:\n  «E107»b: 1\n  «E107»c: [ip]\n",
    "no kind": one("from: [a]", "«E106»os.name"),
    "an unknown kind": one("«E107?enum»kind: enums, values: [a]"),
    "a kind that is a number": one("«E107»kind: 3"),
    "no category": _without("category"),
    "no purposes": _without("purposes"),
    "no retention": _without("retention"),
    "no reason": _without("reason"),
    "an unknown key of a field": one("kind: boolean, «E105?category»categori: system"),
    "an option of another kind": one("kind: boolean, «E105»step: 3, «E105»values: [a]"),
    "a field name in capitals": one("kind: boolean", "«E107»OS.name"),
    "a reserved field name": one("kind: boolean", "«E107»received"),
    "a retention without a unit": _instead("«E107»retention: 30"),
    "a retention of ages": _instead("«E107»retention: 101y"),
    "a date in words": one("kind: boolean, «E107»expires: tomorrow"),
    "a date that is none": one("kind: boolean, «E107»expires: 2026-02-30"),
    "a week for a date": one("kind: boolean, «E107»expires: 2026-W01-1"),
    "never expires, by accident": one("kind: boolean, «E107»expires: "),
    "required: yes": one("kind: boolean, «E107»required: yes"),
    "an undefined purpose": _instead("purposes: [«E132?ops»opss]"),
    "a purpose twice": _instead("«E107»purposes: [ops, ops]"),
    "no purpose": _instead("«E107»purposes: []"),
    "category of private content": _instead("«E303»category: user.content.private"),
    "category of a voice": _instead("«E303»category: user.biometric.voice"),
    "category of anything": _instead("«E303»category: user"),
    "category misspelled": _instead("«E302?user.device.ip_address»category: user.device.ip_adress"),
    "category below a leaf": _instead("«E302»category: user.telemetry.keystrokes"),
    "category of an identifier": _instead("«E306»category: user.device.device_id"),
    # paths
    "chat by index": _paths("[«E305»chat.0.raw]", _TEXT),
    "chat by another spelling": _paths(
        "[«E305»Chat-Messages, «E305»x.CLOSED_captions, «E107»«E305»audio.]", _TEXT
    ),
    "content by its words": _paths("[«E305»chatText, «E305»a.MESSAGE-1.b, «E305»captions]", _TEXT),
    "content as a list of many": one(f"kind: enum, values: {_MANY}", "«E305»os.chat.type"),
    "content by the name of the field": one(_TEXT, "«E305»os.chat"),
    "content that is counted is never read": _paths("[«E305»recording, client.recording]"),
    "people": _paths(
        "[«E310»phone, «E310»a.religion.b, «E310»gps.lat, «E306»display_name, «E310»emotion]", _TEXT
    ),
    "people, by a hash": _paths(
        "[«E310»user.phone, «E310»user.religion, «E305»chat.text, user.id, meeting.uuid]",
        "kind: pseudonym, key: 'env:A', rotate: 1d",
    ),
    "letters beyond ASCII": _paths("[«E107»größe, «E107»a.体温, '\"größe\"', 'a.\"体温\"']"),
    "letters beyond ASCII, for a text that can spell": one(
        "kind: token, pattern: '[a-z]{2}', from: [os.codec, «E312»'os.\"体温\"']", "os.codec"
    ),
    "letters beyond ASCII, for one that cannot": _paths("['os.\"体温\"']", _TEXT),
    "records and choices beyond ASCII": _OPTIONAL
    + "«E107»records: käufe\n«E107»consent: wünsche\n",
    "a pattern that spells": one("kind: token, «E311»pattern: '[a-z]{4}'"),
    "a text of nobody knows what": one("kind: token, pattern: '[a-z]{2}'", "«E312»os.blurb"),
    "a long list of nobody knows what": one(f"kind: enum, values: {_MANY}", "«E312»os.blurb"),
    "a text of nothing": one("kind: token, pattern: '[a-z]{2}'", "«E312»version.level"),
    "a text in records of people": one(
        "kind: token, pattern: '[a-z]{2}', from: [«E306»codec]", "«E306»browser.codec"
    )
    + "records: [a.users]\n",
    "patterns that spell together": PLAIN.replace("fields:", "«E311»fields:")
    + "".join(f"  {name}: {{kind: token, pattern: '[a-z]{{3}}', {REST}}}\n" for name in _NAMES),
    "a sentence that is not written": one("kind: boolean, «E132?quality»also: qualty")
    + "also_collected: {quality: We also measure how well calls run.}\n",
    "no sentence": f"{PLAIN}«E107»also_collected: {{}}\n",
    "a sentence of dots": f"{PLAIN}also_collected: {{«E107»a: '...'}}\n",
    "content under an added name": _paths("[«E305»Back_Channel]")
    + "content: {chat: [backchannel]}\n",
    "no path": _paths("[]").replace("from", "«E107»from"),
    "a path twice": _paths("[a, b, a]").replace("from", "«E107»from"),
    "paths with gaps": _paths(
        f"[«E107»a..b, «E107».a, «E107»'', «E107»a.b.c.d.e.f.g.h.i, «E107»{'x' * 257}]"
    ),
    "elements of lists": _paths(
        "['[0]', '[99].a', «E107»'[100]', «E107»'[01]', «E107»'a.[0]', 'a[0]', «E107»'[x].a',"
        " 'a[0][1].b', «E107»'a[]', «E107»'a[0][x]']"
    ),
    "names in quotes": _paths(
        """['"os.type"', 'a."b.c"[1]', «E107»'"a', «E107»'"a"b', «E107»'a.""']"""
    ),
    "names that JSON can only escape": _paths(
        r"""[«E107»'x"y', «E107»'x\y', «E107»'a."x\y"', {path: a, when: {«E107»'x\y': b}},"""
        r""" {path: c, when: {«E107»'x"y': b}}]"""
    ),
    "ways that JSON can only escape": PLAIN + r"""records: [«E107»'x"y[].z', «E107»'x\y.*']""",
    "content in quotes": _paths("""[«E305»'a."chat.text"', '"os.type."']""", _TEXT),
    "records in lists of lists, and where they lie": _paths(
        "[«E122»ppl, «E122»'qos.x', «E122»'\"qos.x\"', qos_total]"
    )
    + "records: ['ppl[].qos[]', «E107»'a[][]', «E107»'a[].*', «E107»'[]', «E107»'a[].[0]']\n",
    "conditions": _paths(
        "[{path: a, when: {b: x}}, {path: a.b, when: {c: [x, 1, true], d: false}},"
        " «E106»{path: a}, «E106»{when: {b: x}}, {path: a.c, «E107»when: {}},"
        " {path: a.d, when: {«E107»b: []}}, {path: a.e, when: {«E107»b: [x, x]}},"
        " {path: a.f, when: {«E107»b: {c: 1}}}, {«E107»path: 'a[0]', when: {b: x}},"
        " {path: a.g, when: {b: x}, «E105»or: 1}]"
    ),
    "conditions that tell": _paths(
        "[{path: net.ip, when: {gender: [f]}}, {path: ip, when: {«E305»chat: 'yes'}}]",
        "kind: ip",
    ),
    "symbols, and letters that imitate others": _paths("[«E107»ᴄʜᴀᴛ, «E107»device.💬, «E107»сhat]"),
    "records under a condition": _paths("[kind_of_os]")
    + "records: [{path: list, when: {kind: [x]}}, {path: a.b.*, when: {«E107»k: []}},"
    " {«E107»path: 'a[][]', when: {k: x}}, «E106»{path: c},"
    " {path: ., when: {k: x}, «E105»or: 1}]\n",
    "a way that is listed twice": PLAIN + "«E107»records: [list, {path: list, when: {kind: x}}]\n",
    "one way under a condition": PLAIN
    + "records: {path: list, when: {kind: x}, «E105?when»wen: 1}\n",
    "records under conditions that tell": PLAIN
    + "records: {path: list, when: {gender: f, «E305»chat: x, «E122»list: x}}\n",
    "a star in a path": _paths("[«E107»a.*, «E107»'*']"),
    "content by index": _paths("[«E305»'[2].sdp']", _TEXT),
    "an element of counted content": _paths(
        "[«E305»'audio[0].jitter', «E305»'chat[0]', «E305»'[1].audio[1]',"
        " «E305»'\"sdp\"[0][1].count',"
        " audio.jitter, 'monitors[0].width', 'meeting.video[0].width']",
        _COUNT,
    ),
    "a device in an element of content": _paths(
        "[«E305»'messages[0].model.identifier', «E305»'a.chat[0].model.name',"
        " 'tracks[0].model.size']",
        _TEXT,
    ),
    "an element of content further down": _paths(
        "[«E305»'a.chat[0].device.model', «E305»'a.Messages[0][1].device', «E305»'Chat[0].device',"
        " «E305»'[1].a.\"chat\"[2].device.model', 'a.tracks[0].device.model']",
        _TEXT,
    ),
    "an element under an added name": _paths(
        "[«E305»'back_channel[0].model', «E305»'a.backchannel[1]']"
    )
    + "content: {chat: [backchannel]}\n",
    "an added name with a dot": _paths(
        "[«E305»'\"side.channel\".model', «E305»side.channel.model, «E305»'a.Side.Channel[2]',"
        " «E305»'a.side-channel', side.a.channel]"
    )
    + "content: {chat: [side.channel]}\n",
    "records in an element of content": f"{PLAIN}«E305»records: 'messages[0]'\n",
    "records below an added name": PLAIN + "content: {chat: [a.b]}\n«E305»records: 'x.a.b[0].c'\n",
    "choices in an element of content": _OPTIONAL + "«E305»consent: 'chat[0].choices'\n",
    "derived from something else": one("kind: boolean, «E107»derive: peer"),
    "nothing to derive": one("kind: token, pattern: a, «E122»derive: user_agent", "os.build_id"),
    "a derived number": one("kind: boolean, «E122»derive: user_agent"),
    "filled from something else": one("kind: ip, «E107»source: header", "client.address"),
    "filled from the peer": one("kind: ip, «E122»source: peer", "server.address"),
    "an address that is no text": one("kind: boolean, «E122»source: peer", "client.address"),
    "an escape sequence in a text": PLAIN.replace("title: ", '«E107»title: "\\e[31m" #'),
    "a reversed text": PLAIN.replace("title: ", '«E107»title: "a\\u202Eb" #'),
    "a hidden text": PLAIN.replace("title: ", "«E107»title: a\U000e0061b #"),
    "a key with a mark of direction": f'{PLAIN}«E107»"a\\u2066b": 1\n',
    "a key on two lines": f'{PLAIN}«E107»"a\\nb": 1\n',
    "choices, and nothing to choose": f"{PLAIN}«E122»consent: preferences\n",
    "choices that are content": f"{_OPTIONAL}«E305»consent: chat.choices\n",
    "choices with a gap": f"{_OPTIONAL}«E107»consent: a..b\n",
    "choices that are a list of paths": f"{_OPTIONAL}«E107»consent: [a, b]\n",
    "more choices than there may be filters": f"{_optional(7)}«E122»consent: preferences\n",
    "choices in a list, which no event is": f"{_OPTIONAL}«E122»consent: '[1].choices'\n",
    "choices that are records": f"{_OPTIONAL}consent: people.choices\n«E122»records: people\n",
    "a user agent for nothing": f"{PLAIN}«E122»user_agent: [ua]\n",
    "a user agent that is content": one("kind: version, derive: user_agent", "os.version")
    + "user_agent: [«E305»chat, ua]\n",
    "a path with a line end": _paths('[«E107»"a\\nb"]'),
    "a path that is a number": _paths("[«E107»1]"),
    "a path that is no list": _paths("ip").replace("from", "«E107»from"),
    "identifiers": _paths(
        "[«E306»mac_addr, «E306»a.device.id, «E306»Serial-Number, «E306»IDFA]", _TEXT
    ),
    "an identifier by the name of the field": one(_TEXT, "«E306»device.id"),
    # kinds
    "truncate": one("kind: ip, truncate: {«E107»ipv4: 7, «E107»ipv6: 129}"),
    "truncate, keys and types": one("kind: ip, truncate: {«E105?ipv4»ipv_4: 24, «E107»ipv6: '48'}"),
    "truncate, an option of another kind": one("kind: ip, truncate: {«E105»step: 1}"),
    "no values": one("kind: enum", "«E106»os.name"),
    "an empty list of values": one("kind: enum, «E107»values: []"),
    "faulty values": one(f"kind: enum, values: [a, «E107»' b', «E107»'', «E107»{_LONG}, «E107»1]"),
    "a value twice": one("kind: enum, «E107»values: [a, a]"),
    "an alias of nothing": one("kind: enum, values: [a], aliases: {«E122»b: c}"),
    "a value as an alias": one("kind: enum, values: [a, b], aliases: {«E122»a: b}"),
    "aliases that differ in case": one(
        "kind: enum, values: [a, b], fold_case: true, «E122»aliases: {X: a, x: b}"
    ),
    "a list of aliases": one("kind: enum, values: [a], «E107»aliases: [a]"),
    "too few maxima": one("kind: version, parts: 3, «E122»maximum: [9, 9]"),
    "too many maxima": one("kind: version, «E122»maximum: [9, 9, 9, 9, 9]"),
    "too many parts": one("kind: version, «E107»parts: 5"),
    "maxima out of limits": one("kind: version, maximum: [9, 9, «E107»-1, «E107»1000000000]"),
    "neither pattern nor catalogue": one("kind: token", "«E122»os.name"),
    "pattern and catalogue": one("kind: token, pattern: a, catalogue: os-names", "«E122»os.name"),
    "any text": _pattern(".*"),
    "any word": _pattern("\\w+"),
    "anything but": _pattern("[^a]{3}"),
    "a look-ahead": _pattern("(?=a)a"),
    "digits of another script": _pattern("a{1,²}"),
    "too many texts": _pattern("[a-z]{14}", "E116"),
    "too long a text": _pattern("a{64}b", "E116"),
    "longer than max_length": one("kind: token, max_length: 3, «E116»pattern: 'a{4}'"),
    "max_length out of limits": one("kind: token, pattern: a, «E107»max_length: 65"),
    "no such catalogue": one("kind: token, «E101»catalogue: nowhere"),
    "a catalogue without a source": one("kind: token, «E107»catalogue: sourceless"),
    "a catalogue elsewhere": one("kind: token, «E107»catalogue: ../os-names"),
    "the step does not fit": one("kind: integer, «E122»minimum: 1, maximum: 9, step: 2"),
    "a range upside down": one("kind: number, «E122»minimum: 9, maximum: 1, step: 1"),
    "too fine a step": one(f"{_NUMBER}, step: 1e-16").replace("minimum", "«E122»minimum"),
    "no step": one(_NUMBER, "«E106»os.name"),
    "a step backwards": one(f"{_NUMBER}, «E107»step: -1"),
    "no precision": one("kind: time, «E107»precision: week"),
    "a window without a unit": one("kind: time, «E107»within: 7"),
    "the key itself": one(f"{_KEY}, «E202»key: hunter2"),
    "a reference to nowhere": one(f"{_KEY}, «E202»key: 'env:'"),
    "one key at two paces": (
        f"{PLAIN}  user.id: {{kind: pseudonym, key: 'env:A', rotate: 1d, {REST}}}\n"
        f"  device.id: {{kind: pseudonym, key: 'env:A', «E122»rotate: 2d, {REST}}}\n"
    ),
    "a rotation of years": one("kind: pseudonym, key: 'env:A', «E107»rotate: 1y"),
    # content
    "content emptied": content("content: {«E308»chat: []}"),
    "content left blank": content("«E308»content:"),
    "content of nothing": content("«E308»content: {}"),
    "content, one list left blank": content("content: {«E308»chat: , audio: [mic]}"),
    "no such category of content": content("content: {«E107»chats: [a], «E107»basis: [b]}"),
    "an empty content name": content("content: {«E107»chat: ['']}"),
    "too long a content name": content(f"content: {{«E107»chat: [{_LONG}]}}"),
    "content names that JSON can only escape": content(
        r"""content: {«E107»chat: ['x"y'], «E107»file: ['x\y']}"""
    ),
    "a content name twice": content("content: {«E107»chat: [a, a]}"),
    "a content name of two categories": content(
        "content: {chat: [«E122»audio], file: [x], video: [«E122»x]}"
    ),
    "content names that are numbers": content("content: {chat: [«E107»1]}"),
    # tests
    "a test of nothing": trial("«E106»{name: one, event: {}}"),
    "a test without a name": trial("«E106»{event: {}, keeps: {}}"),
    "an unknown key of a test": trial(
        "{name: one, event: {}, «E105?keeps»keep: {}, never_contains: [a]}"
    ),
    "keeps is a text": trial("{name: one, event: {}, «E107»keeps: a}"),
    "keeps a list of texts": trial("{name: one, event: {}, keeps: [{}, «E107»a]}"),
    "keeps is left blank": trial("{name: one, event: {}, «E107»keeps: , never_contains: [a]}"),
    "keeps an undefined field": trial(
        "{name: one, event: {}, keeps: {«E132?os.type»os.typ: linux}}"
    ),
    "never contains nothing": trial(
        "{name: one, event: {}, keeps: {}, «E107»never_contains: ['']}"
    ),
    "two tests of one name": trial(
        "{«E122»name: a, event: 1, keeps: {}}\n  - {«E122»name: a, event: 1, keeps: {}}"
    ),
    # several at once
    "everything about one field": one(
        "kind: token, «E116»pattern: '.*', «E105»extra: 1,"
        " from: [«E305»chat, «E107»a..b, «E306»imei]",
        rest="«E302»category: user.devices, purposes: [«E132»what],"
        " «E107»retention: 30, «E107»reason: ''",
    ),
    "a faulty field adds nothing to the width": one("kind: boolean, «E107»expires: x")
    + "max_bits: 1\n",
    "of an unknown kind": one(
        "«E107»kind: ipx, from: [«E305»chat]", rest="«E303»category: user, purposes: [«E132»x]"
    ).replace("os.name", "«E106»«E106»os.name"),
    "a pseudonym without its key is a pseudonym": one(
        "kind: pseudonym, rotate: 1d, from: [imei]", "«E106»user.id"
    ),
    "a faulty field is a field, a faulty purpose a purpose": _purpose(
        "{use: essential, basis: contract}"
    ).replace("more: {", "«E106»more: {«E301»")
    + "  os.name: {kind: boolean, category: system, purposes: [more],"
    " «E107»retention: 3, reason: Why}\n"
    "tests: [{name: one, event: {}, keeps: {os.name: true}}]\n",
    "everywhere": "«E106»schema: sample\n«E107»version: 1\ntitle: A\n«E105?owner»owners: a\n"
    "content: {«E308»chat: [], file: [scan]}\n"
    "purposes: {ops: {«E301»use: sales, «E107»basis: none, reason: Because}}\n"
    "fields: {a: {kind: ip, from: [«E305»scan], " + REST + "}}\n"
    "tests: [{name: one, event: {}, keeps: {«E132»b: 1}}]\n«E122»title: B\n",
}
"""Faulty documents, by what is wrong with them."""
