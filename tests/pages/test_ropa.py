"""The record of processing: each purpose an activity, in terms of the DPV."""

from __future__ import annotations

import csv
import inspect
import io
import re
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest

from collector.pages import ropa
from collector.pages.model import Page
from collector.pages.phrases import LETTERS, nearest_above
from collector.pages.ropa import BASES, PURPOSES, activities, as_csv, as_json
from collector.schema import resources
from collector.schema.model import Basis
from collector.schema.policy import taxonomy, use_is_allowed
from collector.schema.review import approve, read_copy, review
from tests.pages.sample_config import configured, page_of
from tests.schema.test_review import STATED, jitter, schema_of
from tests.support.rows import for_each

_CELL = "=cmd|' /C calc'!A0"


@pytest.fixture
def page(tmp_path: Path) -> Page:
    """The page of our store and a processor's file."""
    return page_of(configured(tmp_path))


def _rows(text: str) -> dict[str, dict[str, str]]:
    return {row["activity"]: row for row in csv.DictReader(io.StringIO(text, newline=""))}


def test_every_use_and_basis_has_a_term() -> None:
    uses = [use for use in taxonomy()["data_uses"] if use_is_allowed(use)]
    assert all(nearest_above(use, PURPOSES) for use in uses)
    assert set(BASES) == set(LETTERS) == set(get_args(Basis))


def test_an_activity_for_each_purpose(page: Page) -> None:
    found = {each.name: each for each in activities(page)}
    assert list(found) == [each.name for each in page.schemas[0].purposes]
    assert found["security"].fields == {"client.address": "pd:IPAddress"}
    assert found["security"].sinks == {"store": ("client.address",)}
    planning = found["capacity_planning"]
    assert list(planning.sinks) == ["ndjson"]
    assert planning.retention.days == 90
    assert (planning.term, planning.article) == ("dpv:ServiceOptimisation", "eu-gdpr:A6-1-a")


def test_the_table(page: Page) -> None:
    """One row for each activity."""
    rows = _rows(as_csv(page))
    assert rows["security"] | {"source": ""} == {
        "activity": "security",
        "description": "Investigate abuse of meetings",
        "purpose": "dpv:EnforceSecurity",
        "use": "essential.service.security",
        "legal_basis": "dpv:LegitimateInterest",
        "article": "eu-gdpr:A6-1-f",
        "optional": "false",
        "data_subjects": "dpv:User",
        "data": "client.address",
        "data_categories": "pd:IPAddress",
        "recipients": "store (first)",
        "countries": "DE",
        "safeguards": "",
        "retention_days": "30",
        "measures": "dpv:InformationFlowControl; dpv:AccessControlMethod",
        "controller": "Example GmbH",
        "contact": "privacy@example.org",
        "officer": "",
        "controller_country": "DE",
        "also_collected": "",
        "reviewed": "",
        "conditions": "",
        "owner": "privacy-engineering",
        "source": "",
    }
    assert rows["capacity_planning"]["recipients"] == "ndjson (processor, Stats & Co <b>)"
    assert rows["capacity_planning"]["countries"] == "ID"
    assert rows["capacity_planning"]["safeguards"] == "ndjson: standard clauses"
    assert rows["security"]["source"].endswith(page.schemas[0].digest)


def test_the_document(page: Page) -> None:
    """The same as JSON-LD: roles, countries, and how long each item stays."""
    document = as_json(page)
    assert document["dpv:hasDataController"]["dpv:hasName"] == "Example GmbH"
    processes = {each["dct:title"]: each for each in document["dpv:hasPersonalDataProcess"]}
    planning = processes["capacity_planning"]
    assert planning["dpv:hasLegalBasis"] == ["dpv:Consent", "eu-gdpr:A6-1-a"]
    assert planning["dpv:hasNecessity"] == "dpv:Optional"
    (processor,) = planning["dpv:hasDataProcessor"]
    assert (processor["dpv:hasName"], processor["dpv:hasCountry"]) == ("Stats & Co <b>", "ID")
    assert processor["dpv:hasOrganisationalMeasure"] == {
        "@type": "eu-gdpr:DataTransferTool",
        "dct:description": "standard clauses",
    }
    (ours,) = processes["security"]["dpv:hasRecipientDataController"]
    assert ours["dpv:hasCountry"] == "DE"
    (address,) = processes["security"]["dpv:hasPersonalData"]
    assert address["dpv:hasStorageCondition"]["dpv:hasDuration"] == "P30D"


@for_each("schema", resources.names())
def test_every_prefix_is_declared(schema: str, tmp_path: Path) -> None:
    """What is written with a prefix belongs to a vocabulary that the document names; what is said
    of a node with a prefix is a term, not a text."""
    config = configured(tmp_path, sinks={})
    document = as_json(page_of(config, schema))
    context = document.pop("@context")
    assert set(
        re.findall(r'"((?:dpv|pd|dct|eu-gdpr)[a-z-]*):', orjson.dumps(document).decode())
    ) <= (set(context))
    for key, value in _members(document):
        texts = value if isinstance(value, list) else [value]
        if key != "@type" and any(isinstance(t, str) and t.startswith("dpv:") for t in texts):
            assert context[key] == {"@type": "@id"}


def _members(node: Any) -> list[tuple[str, Any]]:
    if isinstance(node, list):
        return [pair for each in node for pair in _members(each)]
    if not isinstance(node, dict):
        return []
    return [*node.items(), *(pair for each in node.values() for pair in _members(each))]


def test_measures_follow_the_configuration(tmp_path: Path) -> None:
    """Encryption and pseudonyms are told where they are."""
    schema = tmp_path / "sample.yaml"
    schema.write_text(
        "schema: sample\nversion: 1.0.0\ntitle: A sample\nowner: a\npurposes:\n"
        "  ops: {use: essential.service.operations, basis: contract, reason: It has to be}\n"
        '  more: {use: essential.service.security, basis: contract, reason: "=1+1 it has to be"}\n'
        "fields:\n  device.serial: {kind: pseudonym, key: 'env:KEY', rotate: 7d, category: system,"
        " purposes: [more], retention: 36h, reason: It has to be}\n"
    )
    tls = {"certificate": "a", "key": "b", "client_ca": "c"}
    config = configured(tmp_path, sinks={}, tls=tls)
    found = page_of(config, schema)
    measures = as_json(found)["dpv:hasTechnicalMeasure"]
    assert measures == [
        "dpv:InformationFlowControl",
        "dpv:AccessControlMethod",
        "dpv:AuthenticationProtocols",
        "dpv:Pseudonymisation",
        "dpv:EncryptionInTransfer",
    ]
    rows = _rows(as_csv(found))
    assert list(rows) == ["more"], "a purpose that no field is for is no activity"
    assert rows["more"]["retention_days"] == "1.5"
    assert b'"PT129600S"' in orjson.dumps(as_json(found))


def test_what_is_left_open_is_said(tmp_path: Path) -> None:
    """Who is responsible, where records go, and what protects them there."""
    sink = {"path": "a", "party": "processor", "recipient": "A", "purposes": ["security"]}
    config = configured(tmp_path, sinks={"ndjson": sink}, about={})
    row = _rows(as_csv(page_of(config)))["security"]
    assert {row[name] for name in ("controller", "contact", "countries")} == {"not stated"}
    controller = as_json(page_of(config))["dpv:hasDataController"]
    assert controller["dpv:hasApplicability"] == "dpv:NotAvailable"
    about = {"country": "DE"}
    config = configured(tmp_path, sinks={"ndjson": sink | {"country": "ID"}}, about=about)
    row = _rows(as_csv(page_of(config)))["security"]
    assert row["safeguards"] == "ndjson: not stated"


_TERMS = frozenset(
    # dpv: classes, instances, properties
    """AccessControlMethod AuthenticationProtocols Collect CommunicationManagement Consent Contract
    DataController DataProcessor DataProtectionOfficer EncryptionInTransfer EnforceSecurity Erase
    Filter FraudPreventionAndDetection IdentityAuthentication ImproveExistingProductsAndServices
    InformationFlowControl LegalCompliance LegalObligation LegitimateInterest NotAvailable Optional
    PaymentManagement PersonalData PersonalDataProcess Process Pseudonymisation PublicInterest
    Purpose RecordManagement Required ServiceOptimisation ServiceProvision StorageDuration Store
    TechnicalServiceProvision ThirdParty User VitalInterest hasApplicability hasContact hasCountry
    hasDataController hasDataProcessor hasDataProtectionOfficer hasDataSubject hasDuration
    hasLegalBasis hasName hasNecessity hasOrganisationalMeasure hasPersonalData
    hasPersonalDataProcess hasProcessing hasPurpose hasRecipientDataController
    hasRecipientThirdParty hasResponsibleEntity hasStorageCondition hasTechnicalMeasure""".split()
)
"""Terms of the DPV 2.0 (https://w3id.org/dpv/2.0), looked up there one by one."""


def test_every_term_is_in_the_vocabulary() -> None:
    source = inspect.getsource(ropa)
    assert set(re.findall(r'"dpv:(\w+)"', source)) <= _TERMS
    assert set(re.findall(r'"pd:(\w+)"', source)) <= {
        *("DeviceBased", "DeviceOperatingSystem", "IPAddress")
    }
    assert set(re.findall(r'"eu-gdpr:(\w+)"', source)) <= {"DataTransferTool"}


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    """A spreadsheet computes no text of a schema or a configuration."""
    config = configured(tmp_path, sinks={}, about={"controller": _CELL, "contact": "@a, b"})
    rows = _rows(as_csv(page_of(config)))
    assert rows["security"]["controller"] == f"'{_CELL}"
    assert rows["security"]["contact"] == "'@a, b"


def test_conditions_are_told(tmp_path: Path) -> None:
    """In the table and in the document, where the schema has any."""
    config = configured(tmp_path, sinks={})
    selective = page_of(config, "webrtc")
    told = 'client.address only where type is "local-candidate" or "localcandidate"'
    (row,) = _rows(as_csv(selective)).values()
    assert row["conditions"] == told
    assert told in as_json(selective)["dct:description"]


def test_whose_judgement_it_is(tmp_path: Path) -> None:
    """The record says to whom an approval is attributed, and which fields have none."""
    schema = schema_of(tmp_path, jitter(), jitter().replace("jitter", "loss"))
    config = configured(tmp_path, sinks={})
    path = tmp_path / "calls.reviewed.yaml"
    path.write_text(approve(read_copy(path), schema, "network.jitter", STATED, {}))
    reviewed = review(schema, read_copy(path))
    found = page_of(config, tmp_path / "calls.yaml", reviewed=reviewed)
    (row,) = _rows(as_csv(found)).values()
    said = [
        "network.jitter: reviewed, attributed to A. Example, 2026-11-29",
        "network.loss: not approved: it is new",
    ]
    assert row["reviewed"] == "; ".join(said)
    assert set(said) <= set(as_json(found)["dct:description"])
