"""The table of error codes: what each one means, why it is checked, and what to do.

Two faults share a code if the user fixes both the same way; the message and its place say the rest.
A code never changes its meaning, and the number of a dropped code is never used again. E1xx are
about documents and settings, E2xx about the machine and what runs on it, E3xx about the policy,
E4xx about input and requests, and E5xx about what is stored and delivered.

``collector error`` prints the table, and ``make tables`` writes docs/errors.md from it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Group(NamedTuple):
    """Codes that belong together: a title, and what they are about."""

    title: str
    about: str


GROUPS: dict[str, Group] = {
    "E1": Group(
        "documents and settings",
        about="A schema, its approved copy, a catalogue, a configuration or a file of claims is"
        " not written as its reference says. Every fault is reported at once, with its place, and"
        " nothing is collected under a document that has one.",
    ),
    "E2": Group(
        "the machine and what runs on it",
        about="The documents are fine, but something around them is not: a package, a secret, a"
        " file, an address, a certificate, a server.",
    ),
    "E3": Group(
        "policy",
        about="The document is well formed, but it asks for something that Collector does not"
        " collect. The rules are code (`collector/schema/policy.py`), so no document can change"
        " them. [Claims](claims.md) name these codes: each rule carries a public sentence.",
    ),
    "E4": Group(
        "input and requests",
        about="An input, a query or a request cannot be taken as a whole. Events that the filter"
        " rejects are not errors; they are counted. A sender gets the code with the HTTP status as"
        ' `{"error":{"code":"E4xx","message":"…"}}`, and over OTLP in a `Status`;'
        " [the sidecar](sidecar.md#what-it-answers) lists every answer.",
    ),
    "E5": Group(
        "storage and delivery",
        about="Something that is stored cannot be read, or records could not be stored or"
        " delivered. What a sink did not take waits in the spool; nothing of it is lost.",
    ),
}
"""The groups of codes by their first two characters."""


class Code(NamedTuple):
    """An entry of the table. ``bad`` is an example that gives the code, ``good`` is the same
    without the fault; both are snippets of ``language``."""

    title: str
    means: str
    why: str
    fix: str
    bad: str
    good: str
    language: Literal["console", "python", "text", "toml", "yaml"] = "yaml"


def _field(name: str, options: str, rest: str = "") -> str:
    category = "" if "category" in rest else "category: user.device, "
    rest = f"{rest}, " if rest else ""
    return (
        f"  {name}: {{{options}, {category}{rest}purposes: [ops], retention: 30d, reason: Why}}\n"
    )


def _purpose(use: str) -> str:
    return f"purposes:\n  ops: {{use: {use}, basis: consent, reason: Keep the call up}}\n"


CODES: dict[str, Code] = {
    # -- E1xx: documents and settings
    "E101": Code(
        "a file cannot be read",
        means="A document or an input does not exist, cannot be read, is too large, or is not"
        " UTF-8; or no schema or catalogue has this name.",
        why="Nothing may run on half of a document, or on another one than was named.",
        fix="Check the name, the path and the permissions. A name without `/` and without `.yaml`"
        " is that of a shipped schema (`collector schema list`). Save text as UTF-8, and keep a"
        " schema within 256 KiB.",
        language="console",
        bad="collector schema check conferencin",
        good="collector schema check conferencing",
    ),
    "E102": Code(
        "a document is not plain YAML 1.2",
        means="An indentation, a quote or a bracket is wrong, or the document uses an anchor, an"
        " alias, a merge key or a tag. The place is where reading stopped; the cause is there or"
        " just before.",
        why="A document is plain data. An alias can make a small file enormous, and a tag can mean"
        " anything.",
        fix="Compare the place with the lines above it, and write values out instead of using"
        " aliases.",
        bad="content: {chat: &names [backchannel], file: *names}\n",
        good="content: {chat: [backchannel], file: [handout]}\n",
    ),
    "E105": Code(
        "there is no such key",
        means="A document has a key that does not belong there, a field has an option of another"
        " kind, or an environment variable that begins with `COLLECTOR__` names no setting.",
        why="If Collector ignored an unknown key, what its author wanted would silently not"
        " happen.",
        fix="Correct its spelling (the message names the nearest key), or delete it.",
        bad="ownr: privacy-engineering\n",
        good="owner: privacy-engineering\n",
    ),
    "E106": Code(
        "a required key is missing",
        means="A required key is missing or empty. The place is what should have it.",
        why="There is no safe default: each field needs its kind and its reason, and each sink of"
        " another party its recipient and its purposes.",
        fix="Write the key that the message names.",
        bad=_field("os.name", "kind: boolean").replace(", reason: Why", ""),
        good=_field("os.name", "kind: boolean"),
    ),
    "E107": Code(
        "a value cannot be used",
        means="A value has the wrong type or form, is outside its limits, is not one of the words"
        " that are allowed, or is in a list twice. The same goes for values on the command line."
        " The message never shows the value, because it may be a secret.",
        why='Types are never guessed: `1.0` is a number and `"1.0"` is text. A setting that is'
        " half understood would do something else than its author wanted.",
        fix="Write the value as the message says.",
        bad=_field("os.name", "kind: boolean").replace("30d", "30 days"),
        good=_field("os.name", "kind: boolean"),
    ),
    "E116": Code(
        "a pattern cannot be counted, or matches too much",
        means="A pattern uses something other than literals, ASCII classes, groups, alternation,"
        " `?`, `{n}` and `{n,m}`; or it matches more than 2^64 texts, or texts that are longer than"
        " `max_length`.",
        why="The values of a field must be countable, so that the schema has a width in bits."
        " Values are never cut to fit.",
        fix="Write exactly what is allowed, shorten repetitions, or write a catalogue of the"
        " values.",
        bad=_field("os.name", "kind: token, pattern: '.*'"),
        good=_field("os.name", "kind: token, pattern: '[0-9]{1,3}'"),
    ),
    "E122": Code(
        "two parts contradict each other",
        means="Two keys, options or settings do not fit together, the same thing is written twice,"
        " or two things need the same path, address or place.",
        why="The author may mean either, and Collector does not choose silently.",
        fix="Change or delete one of the two; the message names both.",
        bad=_field("os.name", "kind: integer, minimum: 1, maximum: 9, step: 2"),
        good=_field("os.name", "kind: integer, minimum: 0, maximum: 9, step: 2"),
    ),
    "E132": Code(
        "a name is not defined",
        means="A field, a sink, a filter or a command names a purpose, a sentence, a sink or a code"
        " that is not defined.",
        why="Otherwise a purpose, a sentence or a sink would silently be missing.",
        fix="Correct the name, or define it: purposes under `purposes` of the schema, sentences"
        " under `also_collected`.",
        bad=_field("os.name", "kind: boolean").replace("[ops]", "[security]"),
        good=_field("os.name", "kind: boolean"),
    ),
    # -- E2xx: the machine and what runs on it
    "E201": Code(
        "a package is missing or cannot be loaded",
        means="The feature needs an extra that is not installed, or a package that offers a type"
        " of sinks cannot be loaded.",
        why="The core has few dependencies. Whoever uses a feature installs its extra.",
        fix="Install what the message names, or repair or remove the package.",
        language="console",
        bad="pip install data-minimisation-collector && collector serve",
        good="pip install 'data-minimisation-collector[cli,sidecar]' && collector serve",
    ),
    "E202": Code(
        "a secret cannot be resolved",
        means="A key or a credential is not written as a reference, or its reference leads to no"
        " secret that can be used; or a filter of a schema with pseudonyms has no `Keyring`.",
        why="Documents are read by many people, so they say where a secret is and never what it"
        " is.",
        fix="Write `env:NAME` or `file:PATH`, and set the variable or write the file; in Python,"
        " pass `keys=Keyring()`. If the secret itself stood in the document, replace it: others"
        " have read it.",
        bad=_field("user.id", "kind: pseudonym, key: hunter2, rotate: 1d"),
        good=_field("user.id", "kind: pseudonym, key: 'env:USER_KEY', rotate: 1d"),
    ),
    "E203": Code(
        "a file or directory cannot be used",
        means="A file or directory that Collector needs is missing, cannot be made or written, is"
        " used by another process, or was not made by Collector.",
        why="Collector makes only the last directory of a path. If the one above is missing, a"
        " volume may not be mounted, and the files would fill the disk of the system.",
        fix="Check the path, the permissions and the room on the disk; mount the volume, or make"
        " the directory above with `mkdir -p`; stop the other process.",
        language="console",
        bad="collector filter events.ndjson --output /no/such/directory/out.ndjson",
        good="collector filter events.ndjson --output out.ndjson",
    ),
    "E207": Code(
        "an address cannot be listened on",
        means="Another process listens there, the system does not allow it, or this machine has no"
        " such address.",
        why="A sidecar that does not listen where it was told to would lose telemetry silently.",
        fix="Stop the other process, or choose another address in the setting that the message"
        " names.",
        language="console",
        bad="collector serve & collector serve",
        good="collector serve",
    ),
    "E210": Code(
        "an open address needs encryption and authentication",
        means="An address that other machines can reach has no TLS, or takes senders without a"
        " token and without a certificate.",
        why="Anyone in the network could read telemetry on its way, or send some.",
        fix="Set `tls.certificate`, `tls.key`, and `auth.tokens` or `tls.client_ca`; or use a"
        " loopback address.",
        language="console",
        bad="COLLECTOR__HTTP__ADDRESS=0.0.0.0:4318 collector serve",
        good="COLLECTOR__HTTP__ADDRESS=127.0.0.1:4318 collector serve",
    ),
    "E212": Code(
        "the files of TLS cannot be used",
        means="A certificate, its key or an authority cannot be read, is not a PEM file, does not"
        " belong to the other, is encrypted, has expired, or is not valid yet.",
        why="Senders would refuse the connection, or be sent to somebody else.",
        fix="Write the right files ([certificates](sidecar.md#certificates-with-openssl)"
        " shows how); `openssl x509 -noout -text` shows what is in one.",
        language="console",
        bad="COLLECTOR__TLS__CERTIFICATE=a.pem COLLECTOR__TLS__KEY=b.pem collector serve",
        good="COLLECTOR__TLS__CERTIFICATE=a.pem COLLECTOR__TLS__KEY=a.key collector serve",
    ),
    "E217": Code(
        "the process cannot be confined",
        means="The kernel lacks Landlock or seccomp, or does not let the process use them (a"
        " container may take them away); or the process could still get out.",
        why="The kernel keeps the process that receives from writing files and opening"
        " connections. `sandbox: required` says that it must.",
        fix="Use a kernel and a container that have both, or set `sandbox: auto`; the message says"
        " what is missing.",
        language="console",
        bad="COLLECTOR__SANDBOX=required collector serve",
        good="COLLECTOR__SANDBOX=auto collector serve",
    ),
    "E219": Code(
        "the server of a sink is not set up as it must be",
        means="A database does not verify its certificate, does not commit durably, has another"
        " encoding, or gives the role too few rights; or a broker keeps messages for too long, or"
        " deletes them before they are taken.",
        why="Records would be lost, be read by others, or be kept for longer than the schema says.",
        fix="Change the server as the message says; see [PostgreSQL](stores.md#postgresql) and"
        " [brokers](sinks.md#nats-jetstream).",
        language="console",
        bad="nats stream add telemetry --max-age 400d",
        good="nats stream add telemetry --max-age 7d",
    ),
    "E221": Code(
        "a setting cannot change while the sidecar runs",
        means="A reload found a change that needs a restart. Nothing of the reload is in force.",
        why="The data directory, the sockets and the confinement belong to the running process.",
        fix="Restart the sidecar, or put the setting back; [the"
        " configuration](configuration.md#changes-while-the-sidecar-runs) lists which need a"
        " restart.",
        language="console",
        bad="collector config reload    # with another `data:` in the file",
        good="systemctl restart collector",
    ),
    "E222": Code(
        "a start or a reload would let more flow",
        means="Something would be collected, or reach a sink, that did not under the configuration"
        " that ran before. There is a message for each such change, at its setting.",
        why="Collecting more is a decision, and must not happen because a file changed.",
        fix="Look at the change (`collector schema diff`, `collector config diff`). If it is meant,"
        " allow it once with `--allow-widening`.",
        language="console",
        bad="collector config reload    # with one more field in the schema",
        good="collector config reload --allow-widening",
    ),
    # -- E3xx: policy
    "E301": Code(
        "the use is not allowed",
        means="The use is a key of fideslang, but data is not collected for it. Allowed are"
        " `essential.service.*`, `essential.fraud_detection`, `essential.legal_obligation`,"
        " `functional.service.improve`, `functional.storage.privacy_preferences` and"
        " `analytics.reporting.system.performance`.",
        why="Advertising, profiling, sale, sharing or training would break a public claim; the"
        " message names it.",
        fix="Collect it for an allowed use, or not at all.",
        bad=_purpose("marketing.advertising.profiling"),
        good=_purpose("essential.service.operations"),
    ),
    "E302": Code(
        "the use or category is not in the taxonomy",
        means="A use or a category is not a key of the fideslang taxonomy.",
        why="Only a known key can be held against the policy.",
        fix="Write a key of `schemas/taxonomy.json`; the message names the nearest.",
        bad=_field("os.name", "kind: boolean", "category: user.devices"),
        good=_field("os.name", "kind: boolean", "category: user.device"),
    ),
    "E303": Code(
        "the category is not allowed",
        means="A field must be about a device (`user.device`), its telemetry (`user.telemetry`) or"
        " a system (`system`), or have a category below one of these.",
        why="Content, biometrics, names, contacts and places would break a public claim; the"
        " message names it.",
        fix="Correct the category. If the field really is about this, leave the field out.",
        bad=_field("os.name", "kind: boolean", "category: user.content.private"),
        good=_field("os.name", "kind: boolean", "category: user.device"),
    ),
    "E305": Code(
        "the path reads meeting content",
        means="A text or a pseudonym has a word for what is said, written, shown or sent (chat,"
        " message, title) in its name or path; or a path of any kind ends at meeting content.",
        why="Meeting content is never decoded: it is skipped as bytes.",
        fix="Count it (`kind: integer`, `chat.count`), list its few values (`kind: enum`,"
        " `audio.codec`), or delete it.",
        bad=_field("os.name", "kind: token, pattern: '[0-9]{3}', from: [chatText]"),
        good=_field("os.name", "kind: token, pattern: '[0-9]{3}', from: [os.release]"),
    ),
    "E306": Code(
        "an identifier is allowed only as a pseudonym",
        means="A text has a word that leads to a device, a person or a meeting (id, name, serial,"
        " mac, session) in its name or path, or a field has the category of an identifier.",
        why="An identifier joins records into the history of one person. A pseudonym does so only"
        " until its key is destroyed.",
        fix="Use `kind: pseudonym`, list its few values (`kind: enum`), or delete it.",
        bad=_field("os.name", "kind: token, pattern: '[0-9]{3}', from: [mac_addr]"),
        good=_field("os.name", "kind: pseudonym, key: 'env:MAC_KEY', rotate: 1d, from: [mac_addr]"),
    ),
    "E307": Code(
        "the record is wider than `max_bits`",
        means="The fields together could carry more bits than `max_bits` of the schema.",
        why="The width bounds what one record can say about a person, whatever its fields are"
        " called.",
        fix="Make fields coarser, leave some out, or raise `max_bits` knowingly. `collector schema"
        " capacity` shows the bits of each field.",
        bad="max_bits: 1\n"
        "fields:\n" + _field("os.type", "kind: enum, values: [linux, macos, windows, other]"),
        good="max_bits: 24\n"
        "fields:\n" + _field("os.type", "kind: enum, values: [linux, macos, windows, other]"),
    ),
    "E308": Code(
        "the built-in content list cannot be shortened",
        means="A list under `content` is empty or blank.",
        why="`content` adds names to the built-in list. An empty list looks as if it took the"
        " built-in names away.",
        fix="Delete the list, or add names to it.",
        bad="content: {chat: []}\n",
        good="content: {chat: [backchannel]}\n",
    ),
    "E309": Code(
        "a third party would receive more than a law demands",
        means="A sink of a third party is for a purpose whose use is not"
        " `essential.legal_obligation`.",
        why="`no-third-party-ads` and `no-sale` would not hold.",
        fix="Give the sink only purposes of that use, or no data. An organisation that works for"
        " you under a contract, and only on your behalf, is a `processor`.",
        bad="sinks: {ndjson: {path: out.ndjson, party: third, recipient: Example Ads,"
        " purposes: [capacity_planning]}}\n",
        good="sinks: {ndjson: {path: out.ndjson, party: processor, recipient: Example Cloud,"
        " purposes: [capacity_planning]}}\n",
    ),
    "E310": Code(
        "the name is about a person, which is not collected",
        means="A text or a pseudonym has a word for a person, how to reach them, what they own,"
        " pay, believe or do, or their health, in its name or path.",
        why="Such a text could say anything about a person, and `needed-only` would not hold.",
        fix="Delete it, or list its few values (`kind: enum`), which a person then reviews.",
        bad=_field("device.birthday", "kind: token, pattern: '[0-9]{3}'"),
        good=_field("device.release", "kind: token, pattern: '[0-9]{3}'"),
    ),
    "E311": Code(
        "the patterns could spell words",
        means="The letters of one pattern carry more than 16 bits (`[a-z]{4}` has 18.8), or those"
        " of all patterns and short lists together more than 48. Digits, punctuation and up to"
        " twelve hexadecimal digits do not count.",
        why="A field that can spell can carry what somebody wrote or said.",
        fix="Write a catalogue, an enum, or letters only where the source has them. `collector"
        " schema capacity` shows the letters of each field.",
        bad=_field("os.build_id", "kind: token, pattern: '[a-z]{4}'"),
        good=_field("os.build_id", "kind: token, pattern: '[0-9]{2}[A-Z][0-9]{1,3}'"),
    ),
    "E312": Code(
        "a text that can spell needs a name of known words",
        means="The values of a field have letters of free choice, and its name or path has a word"
        " that is not a known thing or property, or has no word for a thing"
        " ([names](schema-review.md#texts)).",
        why="A name such as `blurb` does not tell a reviewer what the text could hold.",
        fix="Name it after the device, system or medium that it describes, or list its values.",
        bad=_field("device.blurb", "kind: token, pattern: '[a-z]{2}'"),
        good=_field("device.model", "kind: token, pattern: '[a-z]{2}'"),
    ),
    # -- E4xx: input and requests
    "E403": Code(
        "events were rejected under --strict",
        means="The filter rejected events, and `--strict` was given. The tally says how many and"
        " why.",
        why="`--strict` is for inputs that must be accepted as a whole.",
        fix="Correct what sends these events, or leave `--strict` out.",
        language="console",
        bad="collector filter --strict events.ndjson",
        good="collector filter events.ndjson",
    ),
    "E404": Code(
        "the field does not lead to one person",
        means="A request about a person names a field that the schema does not have, or one whose"
        " values many people share: it is truncated, coarse, or a pseudonym whose key is"
        " destroyed.",
        why="Erasing by such a field would erase the records of other people.",
        fix="Name a field such as `client.address`, if the schema keeps it whole. If the schema has"
        " no such field, no record leads to a person ([rights](rights.md#a-persons-data)).",
        language="console",
        bad="collector subject export --field os.type=linux --from 2026-11-01 --to 2026-11-30",
        good="collector subject export --field client.address=203.0.113.7 --from 2026-11-01 --to"
        " 2026-11-30",
    ),
    "E407": Code(
        "the query cannot be run",
        means="The statement is not valid SQL, names a table or a column that does not exist, is"
        " not one `SELECT`, or uses a function that [the store](stores.md) does not list. SQLite's"
        " own text is not shown, because it quotes the statement.",
        why="A query may only read records.",
        fix="Ask with one `SELECT`; write names with dots in double quotes, and values in single"
        " ones. `collector store query` without a statement lists the tables.",
        language="console",
        bad='collector store query "SELECT client.address FROM conferencing"',
        good="collector store query 'SELECT \"client.address\" FROM conferencing'",
    ),
    "E410": Code(
        "the form of the request is not accepted",
        means="The request is not well-formed HTTP/1.1, or its `Content-Type`, `Content-Encoding`"
        " or `Idempotency-Key` is not one that the path takes.",
        why="A request that can be read in two ways is not read at all.",
        fix="Correct the headers as the message says. If a proxy is in between, check how it"
        " changes requests.",
        language="console",
        bad="curl http://127.0.0.1:4318/v1/events --data '{}'",
        good="curl http://127.0.0.1:4318/v1/events --json '{}'",
    ),
    "E411": Code(
        "authentication is missing or not accepted",
        means="The request has no `Authorization: Bearer …`, or its token is not configured.",
        why="Only senders that are known may send to an address that others can reach.",
        fix="Send a token whose digest is in `auth.tokens` of the configuration.",
        language="console",
        bad="curl https://collector.example:4318/v1/events --json '{}'",
        good="curl https://collector.example:4318/v1/events --json '{}'"
        ' -H "Authorization: Bearer $TOKEN"',
    ),
    "E412": Code(
        "this origin or host is not configured",
        means="A browser sends from a page whose origin is not configured, or the `Host` header is"
        " a name that is not configured.",
        why="Another site's page could send through a visitor's browser, or pretend to be ours.",
        fix="Add the origin to `http.origins` as the browser's address line shows it, without a"
        " path, or the host to `http.hosts`; or use a name that is configured.",
        language="console",
        bad="curl http://127.0.0.1:4318/v1/events --json '{}' -H 'Origin: https://other.example'",
        good="curl http://127.0.0.1:4318/v1/events --json '{}' -H 'Origin: https://meet.example'",
    ),
    "E413": Code(
        "the request asks for something that is not here",
        means="The collector has no such path, the path does not take the method, or no configured"
        " schema has the name that the request gives.",
        why="Events that go to the wrong place must not look accepted.",
        fix="Send with `POST` to `/v1/events`, `/v1/records`, `/v1/logs`, `/v1/traces` or"
        " `/v1/metrics`, and name one of the configured schemas, or none for the first.",
        language="console",
        bad="curl http://127.0.0.1:4318/v1/event --json '{}'",
        good="curl http://127.0.0.1:4318/v1/events --json '{}'",
    ),
    "E416": Code(
        "the request exceeds a limit",
        means="A request is too large as it is sent, when it is decompressed, or in events or"
        " records, arrives too slowly, or has too many headers; or a query takes more time or"
        " memory than it may. Nothing of the request was kept.",
        why="No request and no query may use memory, time or disk without a bound.",
        fix="Send or ask for less at once; the message names the limit. `limits` of the"
        " configuration may be lower than 20,000 events and 8 MiB, and never higher; a query has"
        " `--timeout`.",
        language="console",
        bad="head -c 9000000 /dev/zero | curl http://127.0.0.1:4318/v1/events --json @-",
        good="split -C 1M events.ndjson part- # then send each part",
    ),
    "E422": Code(
        "data is damaged, or not in the form that it claims",
        means="A body is not what its headers say, a compressed file is cut short or broken, or an"
        " archive of a recording was changed. Events of a file that came before the damage were"
        " counted and written.",
        why="Collector does not guess the rest of damaged data.",
        fix="Send what the headers say, or fetch the file again.",
        language="console",
        bad="curl http://127.0.0.1:4318/v1/events --json '{'",
        good="curl http://127.0.0.1:4318/v1/events --json '{}'",
    ),
    "E425": Code(
        "the collector cannot take the request now",
        means="There are too many connections or requests, or the collector is stopping. Nothing of"
        " the request was kept.",
        why="Memory is bounded, and a sender that waits loses nothing.",
        fix="Send again after `Retry-After`; SDKs do so by themselves. If it lasts, use connections"
        " again, send smaller bodies, or raise `workers` and `limits.connections`.",
        language="console",
        bad="curl http://127.0.0.1:4318/v1/events --json @events.json",
        good="curl http://127.0.0.1:4318/v1/events --json @events.json --retry 5",
    ),
    "E428": Code(
        "the collector failed on a request",
        means="Collector has a fault. The error is counted but not described, because a description"
        " might hold a value.",
        why="A failure must be seen, and must not show data.",
        fix="Report how it came about, with made-up data; the log has the place (`unexpected`).",
        language="text",
        bad="HTTP/1.1 500 Internal Server Error",
        good="HTTP/1.1 200 OK",
    ),
    "E429": Code(
        "the records are of another schema",
        means="A record that was sent to `/v1/records` names a schema that the sidecar does not"
        " use."
        " Nothing of the request was kept, so all its records can be sent again.",
        why="Only the sidecar's own schema can be checked again before records are kept.",
        fix="Give the sidecar and the senders the same schema; its version may differ.",
        language="text",
        bad='{"schema":"web/1.0.0","os.type":"linux"}',
        good='{"schema":"conferencing/1.0.0","os.type":"linux"}',
    ),
    "E433": Code(
        "the recorder refused",
        means="The recorder has no such recording or track, or the state of the recording does not"
        " allow the command.",
        why="Only people with a right can open a recording, and only after it is closed.",
        fix="`collector recording list` shows the recordings, `collector recording show ID` the"
        " state and the tracks of one; [recording.md](recording.md#what-a-refusal-says) explains"
        " the refusals.",
        language="console",
        bad="collector recording open ID ben-audio    # while it is recorded",
        good="collector recording show ID && collector recording open ID ben-audio",
    ),
    "E435": Code(
        "the idempotency key was used for other records",
        means="An earlier request had the same `Idempotency-Key` and other records. Those are"
        " stored, and nothing of this request is. The answer has the counts of the first one.",
        why="A key that stands for two bodies cannot tell a repetition from something new.",
        fix="Make a new random key for each body. If a retry has fewer fields because consent was"
        " withdrawn, treat it as delivered.",
        language="console",
        bad="key=00000000000000000000000000000007    # for each body",
        good="key=$(openssl rand -hex 16)    # for each body a new one",
    ),
    # -- E5xx: storage and delivery
    "E501": Code(
        "the store cannot be opened",
        means="The file is not a store of Collector's, is damaged, or has a format that this"
        " version does not know; or a database has other tables with the names that are needed.",
        why="Collector never writes into what it does not know.",
        fix="Name another file or namespace, or use the version that wrote it. Keep a damaged file"
        " for inspection.",
        language="console",
        bad="collector store query --store README.md",
        good="collector store query --store data/store.db",
    ),
    "E503": Code(
        "the sink did not take the batch",
        means="The disk is full or failing, another process holds the file, or the server refused"
        " a value. The part that was written is rolled back.",
        why="A batch is stored as a whole or not at all.",
        fix="Make room, or end the other process. A spool delivers the batch again by itself; in"
        " Python, call `deliver` again with the same batch.",
        language="python",
        bad="store.deliver(batch)  # while the disk is full",
        good="store.deliver(batch)  # again, once there is room",
    ),
    "E504": Code(
        "a table does not fit the schema",
        means="A column has another type than its field, a field has a name that the sink needs for"
        " itself, or the database cannot have a name that the schema needs.",
        why="Values would be changed to fit, or land in the wrong column.",
        fix="Give the field or the schema another name, or use another file or namespace. Attach a"
        " detached partition again, or rename it.",
        bad="  day: {kind: boolean, …}    # with a sink of the type `parquet`\n",
        good="  os.day: {kind: boolean, …}\n",
    ),
    "E505": Code(
        "the spool is full",
        means="A sink does not take its batches, so the waiting records have reached"
        " `spool.limit` or"
        " the sink's `limit`. Nothing of the request was kept. Earlier records still wait.",
        why="Records that were acknowledged are never dropped for new ones.",
        fix="`/readyz` and `collector status` name the sink and why it fails. Mend it, drop what"
        " waits for it if it is gone, or raise the limit. If this sink may miss records rather than"
        " hold senders up, give it `when_full: skip`. Senders try again later.",
        language="console",
        bad="curl http://127.0.0.1:4318/v1/events --json @events.json",
        good="collector status    # mend the sink that is blocking, then send again",
    ),
    "E506": Code(
        "the data directory cannot be written",
        means="A write or a sync failed: the disk is full, failing or read-only. Nothing is"
        " acknowledged meanwhile.",
        why="Acknowledged means on disk.",
        fix="Make room (`df` on the data directory), or see what the system says (`dmesg`, a"
        " read-only mount, a quota). The spool then goes on by itself; senders try again later.",
        language="console",
        bad="df data    # 100 % used",
        good="df data    # with room",
    ),
    "E507": Code(
        "what is stored cannot be read",
        means="The spool, the ledger, a stored batch or a file of a lake is damaged, or was not"
        " written by Collector. Nothing was done to it.",
        why="A file that Collector did not write proves nothing, and is not deleted.",
        fix="Name the right directory. Keep the file for inspection, and move it away. A sidecar"
        " that starts on a damaged spool sets it aside and saves what can be read.",
        language="console",
        bad="collector ledger verify --data somewhere-else",
        good="collector ledger verify --data data",
    ),
    "E511": Code(
        "the sink will never take the batch",
        means="A sink raised `Unacceptable` for a batch. The batch is set aside and counted.",
        why="A batch that fails forever must not hold up those behind it.",
        fix="The sink's documentation says which batches it refuses. `collector store set-aside`"
        " lists"
        " these batches and `collector store redeliver` delivers them again; see"
        " [sinks.md](sinks.md).",
        language="console",
        bad="collector store set-aside    # lists one batch",
        good="collector store redeliver",
    ),
    "E513": Code(
        "a worker handed over a batch that its filter cannot have made",
        means="Records, counts, a minute or purposes that a worker gave to the keeper cannot come"
        " from the filter of this schema. Nothing of the batch is kept.",
        why="The process that receives is not trusted: a sender may have taken it over.",
        fix="Stop the sidecar and find out what was sent to it. If nothing was, report it: it is a"
        " fault of Collector.",
        language="python",
        bad="Recheck(schema).check(foreign_batch)",
        good="Recheck(schema).check(batch)",
    ),
    "E514": Code(
        "a server does not answer, or refuses now",
        means="The sidecar, the recorder, or the server of a sink is not there, does not answer in"
        " time, refuses the credentials, or has no room. Records wait and are sent again.",
        why="Collector reports nothing as shown, stored or erased unless it was. A sidecar starts"
        " without its sinks' servers, so `collector config check` only warns.",
        fix="Check that the server runs and can be reached, and that address, credentials and"
        " certificate are its own; the message says which. Then give the command again.",
        language="console",
        bad="COLLECTOR_SDK_TO=http://127.0.0.1:9 python app.py",
        good="COLLECTOR_SDK_TO=http://127.0.0.1:4318 python app.py",
    ),
    "E519": Code(
        "the sidecar did not do what was asked",
        means="A worker did not start, a reload did not end, the turn of a busy sink did not come,"
        " or the sidecar ended or refused while it carried out a command.",
        why="Somebody must know that a command was not carried out, above all an erasure.",
        fix="See the log, `collector status`, and the memory and limits of the machine; then give"
        " the command again. It does what was not done.",
        language="console",
        bad="collector store prune    # and the sidecar is killed meanwhile",
        good="collector store prune    # again",
    ),
    "E520": Code(
        "a message of a broker is not Collector's",
        means="A drain read a message that Collector did not publish, that has a wrong MAC, or that"
        " holds records which no accepted schema makes. It is counted by its reason and removed.",
        why="Others may be able to write to the stream.",
        fix="See who can write to the stream, and that the drain has their schemas and their key;"
        " [sinks.md](sinks.md#messages) lists the reasons.",
        language="console",
        bad="nats pub telemetry 'something else'",
        good="collector serve --from tls://HOST/STREAM    # with the senders' key",
    ),
}
