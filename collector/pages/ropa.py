"""The record of processing activities (Art. 30 GDPR), one activity for each purpose, in terms of
the W3C's Data Privacy Vocabulary (DPV 2, https://w3id.org/dpv)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from collector.config import Config
from collector.config.model import About
from collector.config.sink_settings import SinkSettings
from collector.pages.phrases import LETTERS, nearest_above, phrase_book
from collector.routing import Flows, is_unprotected
from collector.schema.model import Basis, Purpose, Schema
from collector.schema.names.scope import conditions, scope
from collector.schema.review import Review

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
"""The names in a document of JSON-LD; the values of these properties are terms."""


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
"""First characters of a cell that a spreadsheet computes; some read wide letters too."""
_NOT_STATED = "not stated"


@dataclass(frozen=True)
class Activity:
    """The processing for one purpose: fields with the DPV's terms, sinks with the fields that each
    gets for it, and the longest retention."""

    name: str
    purpose: Purpose
    fields: dict[str, str]
    sinks: dict[str, tuple[str, ...]]
    retention: timedelta

    @property
    def term(self) -> str:
        """Return the DPV's purpose."""
        return nearest_above(self.purpose.use, PURPOSES) or "dpv:Purpose"

    @property
    def article(self) -> str:
        """Return the article of the GDPR with the legal basis."""
        return f"eu-gdpr:A6-1-{LETTERS[self.purpose.basis]}"


def activities(flows: Flows) -> Iterator[Activity]:
    """Yield an activity for each purpose that a field is collected for."""
    schema = flows.schema
    for name, purpose in schema.purposes.items():
        fields = {key: field for key, field in schema.fields.items() if name in field.purposes}
        reached = {
            sink: tuple(key for key, reasons in flows.to(sink).items() if name in reasons)
            for sink in flows.sinks
        }
        if fields:
            yield Activity(
                name,
                purpose,
                {key: data(key, field.category) for key, field in fields.items()},
                {sink: names for sink, names in reached.items() if names},
                max(field.retention for field in fields.values()),
            )


def as_json(flows: Flows, config: Config, reviewed: Review) -> dict[str, Any]:
    """Write the record as a document of JSON-LD."""
    about = config.about
    named = _party(about.controller) or {"dpv:hasApplicability": "dpv:NotAvailable"}
    controller: dict[str, Any] = {"@type": "dpv:DataController", **named}
    controller |= {"dpv:hasContact": about.contact} if about.contact else {}
    controller |= _country(about.country)
    if about.officer:
        officer = {"@type": "dpv:DataProtectionOfficer", "dpv:hasContact": about.officer}
        controller["dpv:hasDataProtectionOfficer"] = officer
    return {
        "@context": CONTEXT,
        "@type": "dpv:Process",
        "dct:title": flows.schema.title,
        "dct:source": f"{flows.schema.id} sha256:{flows.schema.digest}",
        "dpv:hasDataController": controller,
        "dpv:hasResponsibleEntity": {"dpv:hasName": flows.schema.owner},
        "dpv:hasTechnicalMeasure": _measures(flows.schema, config),
        **_statements(flows.schema, reviewed),
        "dpv:hasPersonalDataProcess": [_node(each, flows, about) for each in activities(flows)],
    }


def as_csv(flows: Flows, config: Config, reviewed: Review) -> str:
    """Write the record as a table (RFC 4180), an activity a row; semicolons separate lists."""
    about, schema = config.about, flows.schema
    rows = [
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
            "recipients": _list(_named(name, flows.sinks[name]) for name in each.sinks),
            "countries": _list(
                dict.fromkeys(about.place(flows.sinks[name]) or _NOT_STATED for name in each.sinks)
            ),
            "safeguards": _list(_safeguards(flows, each, about)),
            "retention_days": f"{each.retention / timedelta(days=1):g}",
            "measures": _list(_measures(schema, config)),
            "controller": about.controller or _NOT_STATED,
            "contact": about.contact or _NOT_STATED,
            "officer": about.officer or "",
            "controller_country": about.country or "",
            "also_collected": " ".join(scope(schema).sentences),
            "reviewed": _list(_reviewed(reviewed)),
            "conditions": _list(_conditions(schema)),
            "owner": schema.owner,
            "source": f"{schema.id} sha256:{schema.digest}",
        }
        for each in activities(flows)
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _reviewed(reviewed: Review) -> Iterator[str]:
    """Yield to whom the approval of fields is attributed, and which fields have none."""
    for addition in reviewed.additions:
        yield f"{', '.join(addition.fields)}: reviewed, {addition.attributed}"
    for each in reviewed.unapproved:
        yield f"{each.name}: {each.why}"


def _statements(schema: Schema, reviewed: Review) -> dict[str, Any]:
    """Return what the schema says in public besides its fields, where it says something."""
    sentences = [*_conditions(schema), *scope(schema).sentences, *_reviewed(reviewed)]
    return {"dct:description": sentences} if sentences else {}


def _conditions(schema: Schema) -> Iterator[str]:
    """Yield the conditions on records and on values, in the words of the notice."""
    found, book = conditions(schema), phrase_book("en")
    for name, alternatives in [("records", found.of_records), *found.of_fields.items()]:
        if alternatives:
            yield f"{name} only where {book.any_of(alternatives)}"


def _node(activity: Activity, flows: Flows, about: About) -> dict[str, Any]:
    fields, purpose = flows.schema.fields, activity.purpose
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
                "dct:identifier": fields[name].category,
                "dct:description": fields[name].reason,
                "dpv:hasStorageCondition": {
                    "@type": "dpv:StorageDuration",
                    "dpv:hasDuration": _duration(fields[name].retention),
                },
            }
            for name, term in activity.fields.items()
        ],
    }
    for name, names in activity.sinks.items():
        sink = flows.sinks[name]
        role, kind = _ROLES[sink.party]
        recipient: dict[str, Any] = {
            "@type": kind,
            "dct:identifier": name,
            "dct:description": ", ".join(names),
        }
        recipient |= _party(sink.recipient) | _country(about.place(sink))
        if sink.safeguard is not None:
            tool = {"@type": "eu-gdpr:DataTransferTool", "dct:description": sink.safeguard}
            recipient["dpv:hasOrganisationalMeasure"] = tool
        node.setdefault(role, []).append(recipient)
    return node


def _measures(schema: Schema, config: Config) -> list[str]:
    """List the measures in force: some always, some by schema and configuration."""
    fields = schema.fields.values()
    found = ["dpv:InformationFlowControl", "dpv:AccessControlMethod"]
    if config.auth.tokens or config.tls.client_ca is not None:
        found.append("dpv:AuthenticationProtocols")
    found += ["dpv:Pseudonymisation"] if any(f.pseudonymous for f in fields) else []
    found += ["dpv:EncryptionInTransfer"] if config.tls.certificate is not None else []
    return found


def _safeguards(flows: Flows, activity: Activity, about: About) -> Iterator[str]:
    """Yield the safeguards of transfers abroad, for each sink that has or needs one."""
    for name in activity.sinks:
        sink = flows.sinks[name]
        if sink.safeguard is not None or is_unprotected(sink, about):
            yield f"{name}: {sink.safeguard or _NOT_STATED}"


def _party(name: str | None) -> dict[str, str]:
    return {} if name is None else {"dpv:hasName": name}


def _country(country: str | None) -> dict[str, str]:
    return {} if country is None else {"dpv:hasCountry": country}


def _named(name: str, sink: SinkSettings) -> str:
    return f"{name} ({', '.join(part for part in (sink.party, sink.recipient) if part)})"


def _duration(span: timedelta) -> str:
    """Write a span in ISO 8601, in days if it is whole days, else in seconds."""
    seconds = int(span.total_seconds())
    return f"PT{seconds}S" if seconds % 86400 else f"P{seconds // 86400}D"


def _list(parts: Any) -> str:
    return "; ".join(parts)


def _cell(text: str) -> str:
    """Quote a text that a spreadsheet would take for a formula."""
    return f"'{text}" if text.startswith(_FORMULAS) else text
