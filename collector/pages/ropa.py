"""The record of processing activities (Art. 30 GDPR), one activity for each purpose, in terms of
the W3C's Data Privacy Vocabulary (DPV 2, https://w3id.org/dpv)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from collector.pages.model import Destination, Page, PurposeFacts, SchemaFacts
from collector.pages.phrases import LETTERS, nearest_above, phrase_book
from collector.schema.model import Basis

PURPOSES: dict[str, str] = {
    "essential.service": "dpv:ServiceProvision",
    "essential.service.authentication": "dpv:IdentityAuthentication",
    "essential.service.notifications": "dpv:CommunicationManagement",
    "essential.service.operations": "dpv:TechnicalServiceProvision",
    "essential.service.payment_processing": "dpv:PaymentManagement",
    "essential.service.security": "dpv:EnforceSecurity",
    "essential.fraud_detection": "dpv:FraudPreventionAndDetection",
    "essential.legal_obligation": "dpv:LegalCompliance",
    "functional.service.improve": "dpv:ImproveExistingProductsAndServices",
    "functional.storage.privacy_preferences": "dpv:RecordManagement",
    "analytics.reporting.system.performance": "dpv:ServiceOptimisation",
}
"""The DPV's purpose for a use of the taxonomy, or for the nearest one above it."""

BASES: dict[Basis, str] = {
    "consent": "dpv:Consent",
    "contract": "dpv:Contract",
    "legal_obligation": "dpv:LegalObligation",
    "vital_interests": "dpv:VitalInterest",
    "public_interest": "dpv:PublicInterest",
    "legitimate_interests": "dpv:LegitimateInterest",
}
"""The DPV's legal bases. Its extension for the GDPR names the article: ``eu-gdpr:A6-1-a``."""

_DATA = {
    "user.device": "pd:DeviceBased",
    "user.device.ip_address": "pd:IPAddress",
}
_SYSTEM = ("os.", "pd:DeviceOperatingSystem")
_ANY = "dpv:PersonalData"
CONTEXT: dict[str, Any] = {
    "dpv": "https://w3id.org/dpv#",
    "pd": "https://w3id.org/dpv/pd#",
    "eu-gdpr": "https://w3id.org/dpv/legal/eu/gdpr#",
    "dct": "http://purl.org/dc/terms/",
    **{
        f"dpv:has{name}": {"@type": "@id"}
        for name in (
            *("LegalBasis", "Necessity", "DataSubject", "Processing", "TechnicalMeasure"),
            "Applicability",
        )
    },
}
"""The names in a JSON-LD document; the values of these properties are terms."""


def data(name: str, category: str) -> str:
    """Return the DPV's term for a field."""
    if name.startswith(_SYSTEM[0]):
        return _SYSTEM[1]
    return nearest_above(category, _DATA) or _ANY


_ROLES = {
    "first": ("dpv:hasRecipientDataController", "dpv:DataController"),
    "processor": ("dpv:hasDataProcessor", "dpv:DataProcessor"),
    "third": ("dpv:hasRecipientThirdParty", "dpv:ThirdParty"),
}
_FORMULAS = (*"=+-@\t\r\n", *"＝＋－＠")
"""First characters of a cell that a spreadsheet would compute; some programs accept wide forms
too."""
_NOT_STATED = "not stated"


@dataclass(frozen=True)
class Activity:
    """The processing for one purpose: fields with the DPV's terms, sinks with the fields that each
    one gets for it, and the longest retention."""

    purpose: PurposeFacts
    fields: dict[str, str]
    sinks: dict[str, tuple[str, ...]]
    retention: timedelta

    @property
    def name(self) -> str:
        """Return the name of the purpose."""
        return self.purpose.name

    @property
    def term(self) -> str:
        """Return the DPV's purpose."""
        return nearest_above(self.purpose.use, PURPOSES) or "dpv:Purpose"

    @property
    def article(self) -> str:
        """Return the article of the GDPR with the legal basis."""
        return f"eu-gdpr:A6-1-{LETTERS[self.purpose.basis]}"


def activities(page: Page) -> Iterator[Activity]:
    """Yield an activity for each purpose that a field of the first schema is collected for."""
    schema = page.schemas[0]
    for purpose in schema.purposes:
        fields = [field for field in schema.fields if purpose.name in field.purposes]
        reached = {
            sink.name: tuple(
                field.name for field in fields if purpose.name in field.sinks.get(sink.name, ())
            )
            for sink in page.destinations
        }
        yield Activity(
            purpose,
            {field.name: data(field.name, field.category) for field in fields},
            {sink: names for sink, names in reached.items() if names},
            max(field.retention for field in fields),
        )


def as_json(page: Page) -> dict[str, Any]:
    """Write the record of the first schema as a JSON-LD document."""
    schema = page.schemas[0]
    named = _party(page.organisation) or {"dpv:hasApplicability": "dpv:NotAvailable"}
    controller: dict[str, Any] = {"@type": "dpv:DataController", **named}
    controller |= {"dpv:hasContact": page.contact} if page.contact else {}
    controller |= _country(page.country)
    if page.officer:
        officer = {"@type": "dpv:DataProtectionOfficer", "dpv:hasContact": page.officer}
        controller["dpv:hasDataProtectionOfficer"] = officer
    return {
        "@context": CONTEXT,
        "@type": "dpv:Process",
        "dct:title": schema.title,
        "dct:source": _source(schema),
        "dpv:hasDataController": controller,
        "dpv:hasResponsibleEntity": {"dpv:hasName": schema.owner},
        "dpv:hasTechnicalMeasure": _measures(page),
        **_statements(schema),
        "dpv:hasPersonalDataProcess": [_node(each, page) for each in activities(page)],
    }


def as_csv(page: Page) -> str:
    """Write the record of the first schema as a table (RFC 4180), one activity per row, with lists
    separated by semicolons."""
    schema = page.schemas[0]
    rows = []
    for each in activities(page):
        sinks = [page.destination(name) for name in each.sinks]
        places = dict.fromkeys(sink.country or _NOT_STATED for sink in sinks)
        rows.append(
            {
                "activity": each.name,
                "description": each.purpose.reason,
                "purpose": each.term,
                "use": each.purpose.use,
                "legal_basis": BASES[each.purpose.basis],
                "article": each.article,
                "optional": str(each.purpose.optional).lower(),
                "data_subjects": "dpv:User",
                "data": _list(each.fields),
                "data_categories": _list(dict.fromkeys(each.fields.values())),
                "recipients": _list(map(_named, sinks)),
                "countries": _list(places),
                "safeguards": _list(_safeguards(sinks)),
                "retention_days": f"{each.retention / timedelta(days=1):g}",
                "measures": _list(_measures(page)),
                "controller": page.organisation or _NOT_STATED,
                "contact": page.contact or _NOT_STATED,
                "officer": page.officer or "",
                "controller_country": page.country or "",
                "also_collected": " ".join(schema.sentences),
                "reviewed": _list(_reviewed(schema)),
                "conditions": _list(_conditions(schema)),
                "owner": schema.owner,
                "source": _source(schema),
            }
        )
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _source(schema: SchemaFacts) -> str:
    return f"{schema.id} sha256:{schema.digest}"


def _reviewed(schema: SchemaFacts) -> Iterator[str]:
    """Yield to whom the approval of fields is attributed, and which fields have none."""
    for each in schema.approved:
        yield f"{', '.join(each.fields)}: reviewed, attributed to {each.by}, {each.date}"
    for name, why in schema.unapproved.items():
        yield f"{name}: {why}"


def _statements(schema: SchemaFacts) -> dict[str, Any]:
    """Return what the schema says in public besides its fields, without empty statements."""
    sentences = [*_conditions(schema), *schema.sentences, *_reviewed(schema)]
    return {"dct:description": sentences} if sentences else {}


def _conditions(schema: SchemaFacts) -> Iterator[str]:
    """Yield the conditions on records and values, in the words of the notice."""
    book = phrase_book("en")
    of_fields = [(field.name, field.conditions) for field in schema.fields]
    for name, alternatives in [("records", schema.conditions), *of_fields]:
        if alternatives:
            yield f"{name} only where {book.any_of(alternatives)}"


def _node(activity: Activity, page: Page) -> dict[str, Any]:
    schema, purpose = page.schemas[0], activity.purpose
    node: dict[str, Any] = {
        "@type": "dpv:PersonalDataProcess",
        "dct:title": activity.name,
        "dct:description": purpose.reason,
        "dpv:hasPurpose": {"@type": activity.term, "dct:identifier": purpose.use},
        "dpv:hasLegalBasis": [BASES[purpose.basis], activity.article],
        "dpv:hasNecessity": "dpv:Optional" if purpose.optional else "dpv:Required",
        "dpv:hasDataSubject": "dpv:User",
        "dpv:hasProcessing": ["dpv:Collect", "dpv:Filter", "dpv:Store", "dpv:Erase"],
        "dpv:hasPersonalData": [
            {
                "@type": term,
                "dct:title": name,
                "dct:identifier": schema.field(name).category,
                "dct:description": schema.field(name).reason,
                "dpv:hasStorageCondition": {
                    "@type": "dpv:StorageDuration",
                    "dpv:hasDuration": _duration(schema.field(name).retention),
                },
            }
            for name, term in activity.fields.items()
        ],
    }
    for name, names in activity.sinks.items():
        sink = page.destination(name)
        role, kind = _ROLES[sink.party]
        recipient: dict[str, Any] = {
            "@type": kind,
            "dct:identifier": name,
            "dct:description": ", ".join(names),
        }
        recipient |= _party(sink.recipient) | _country(sink.country)
        if sink.safeguard is not None:
            tool = {"@type": "eu-gdpr:DataTransferTool", "dct:description": sink.safeguard}
            recipient["dpv:hasOrganisationalMeasure"] = tool
        node.setdefault(role, []).append(recipient)
    return node


def _measures(page: Page) -> list[str]:
    """List the measures in force: some always apply, some depend on schema and configuration."""
    found = ["dpv:InformationFlowControl", "dpv:AccessControlMethod"]
    if page.authenticated:
        found.append("dpv:AuthenticationProtocols")
    found += ["dpv:Pseudonymisation"] * any(f.pseudonymous for f in page.schemas[0].fields)
    found += ["dpv:EncryptionInTransfer"] * page.encrypted
    return found


def _safeguards(sinks: Iterable[Destination]) -> Iterator[str]:
    """Yield the safeguards for transfers abroad, for each sink that has or needs one."""
    for sink in sinks:
        if sink.safeguard is not None or sink.unprotected:
            yield f"{sink.name}: {sink.safeguard or _NOT_STATED}"


def _party(name: str | None) -> dict[str, str]:
    return {} if name is None else {"dpv:hasName": name}


def _country(country: str | None) -> dict[str, str]:
    return {} if country is None else {"dpv:hasCountry": country}


def _named(sink: Destination) -> str:
    return f"{sink.name} ({', '.join(part for part in (sink.party, sink.recipient) if part)})"


def _duration(span: timedelta) -> str:
    """Write a span in ISO 8601: whole days in days, any other in seconds."""
    seconds = int(span.total_seconds())
    return f"PT{seconds}S" if seconds % 86400 else f"P{seconds // 86400}D"


def _list(parts: Any) -> str:
    return "; ".join(parts)


def _cell(text: str) -> str:
    """Quote a text that a spreadsheet would take for a formula."""
    return f"'{text}" if text.startswith(_FORMULAS) else text
