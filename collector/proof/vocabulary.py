"""Terms of the W3C's Data Privacy Vocabulary (DPV 2, https://w3id.org/dpv) for what schemas say."""

from __future__ import annotations

from typing import Any

from collector.proof.words import nearest_above
from collector.schema.model import Basis

__all__ = ["BASES", "CONTEXT", "PURPOSES", "data"]

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
"""The names in a document of JSON-LD; what is said by one of these properties is a term."""


def data(name: str, category: str) -> str:
    """The DPV's term for a field."""
    if name.startswith(_SYSTEM[0]):
        return _SYSTEM[1]
    return nearest_above(category, _DATA) or _ANY
