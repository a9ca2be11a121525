"""Extraction: every stored parameter of every type makes entries of every datatype it meets; nothing is silently left out."""

import gzip
import json
import statistics
from datetime import timedelta, timezone
from decimal import Decimal

import pytest

from resources.definitions import load
from resources.model import ResourceKey
from search.entries import ReferenceEntry, StringEntry, TokenEntry, UriEntry
from search.extract import Extractor
from search.parameters import Parameter

DEFINITIONS = load()
BASES = ("http://localhost/fhir",)
# What a parameter's expression allows and its type cannot say: https://hl7.org/fhir/R4/search.html#table
UNSUPPORTED = {
    ("CarePlan", "activity-date", "string"),
    ("Consent", "source-reference", "Attachment"),
    ("Group", "characteristic-value/2", "Quantity"),
    ("Group", "characteristic-value/2", "Range"),
    ("Group", "characteristic-value/2", "Reference"),
    ("Immunization", "date", "string"),
    ("Procedure", "date", "Age"),
    ("Procedure", "date", "Range"),
    ("Procedure", "date", "string"),
}


class Plain:
    """A registry as the definitions have it: every parameter has rows of its own."""

    epoch = 0

    def __init__(self, *extra):
        by_url = {parameter.url: parameter for parameter in DEFINITIONS.search_parameters}
        self.found = {}
        for parameter in DEFINITIONS.search_parameters:
            for base in parameter.bases:
                for kind in DEFINITIONS.resource_types if DEFINITIONS.types[base].abstract else (base,):
                    parts = tuple(
                        Parameter(kind, f"{parameter.code}/{at}", _type(by_url, part), part.definition, part.expression)
                        for at, part in enumerate(parameter.components, 1)
                    )
                    made = Parameter(
                        kind,
                        parameter.code,
                        parameter.type,
                        parameter.url,
                        parameter.expression,
                        parameter.targets,
                        parts,
                    )
                    self.found.setdefault(kind, {})[parameter.code] = made
        for parameter in extra:
            self.found[parameter.base][parameter.code] = parameter

    def stored(self, kind):
        return tuple(self.found[kind].values())

    def find(self, kind, code):
        return self.found[kind].get(code)


def _type(by_url, part):
    # R4 names the two components of DocumentReference's `relationship` the wrong way round
    if "DocumentReference-relat" in part.definition:
        return {"code": "token", "target": "reference"}[part.expression]
    return by_url[part.definition].type


@pytest.fixture(scope="module")
def extractor():
    return Extractor(DEFINITIONS, Plain(), BASES)


def entries(extractor, resource, **more):
    return extractor.extract({**resource, **more}, ResourceKey(resource["resourceType"], resource.get("id", "x")))


def of(rows, code):
    return [row for row in rows if row.parameter == code]


def test_what_no_entry_is_made_of_is_listed(extractor):
    found = {(kind, *pair) for kind in DEFINITIONS.resource_types for pair in extractor.unsupported(kind)}
    assert found == UNSUPPORTED


def test_every_parameter_with_an_expression_meets_some_datatype(extractor):
    registry = Plain()
    for kind in DEFINITIONS.resource_types:
        for parameter in registry.stored(kind):
            special = parameter.type in ("special", "composite") or parameter.code in ("_id", "_lastUpdated")
            if parameter.expression is not None and not special and not parameter.url.endswith("/example-extension"):
                assert extractor.datatypes(parameter), (kind, parameter.code)


PATIENT = {
    "resourceType": "Patient",
    "id": "p",
    "meta": {
        "profile": ["http://a.org/profile|1.0"],
        "tag": [{"system": "http://t.org", "code": "Tag"}],
        "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}],
        "source": "http://a.org/source",
    },
    "identifier": [{"system": "http://h.org", "value": "7"}, {"system": "http://h.org", "value": "7"}],
    "active": True,
    "name": [{"family": "van der Berg", "given": ["Ann", None]}],
    "_birthDate": {"extension": [{"url": "http://a.org", "valueString": "unknown"}]},
    "gender": "female",
    "telecom": [{"system": "phone", "value": "1"}, {"system": "email", "value": "A@b.org"}],
    "generalPractitioner": [{"reference": "Practitioner/1"}, {"reference": "http://other.org/Practitioner/2"}],
    "managingOrganization": {"identifier": {"system": "http://h.org", "value": "Org"}},
}


def test_a_patient(extractor):
    found = entries(extractor, PATIENT)
    assert of(found.tokens, "_tag") == [TokenEntry("_tag", "http://t.org", "tag")]
    assert of(found.tokens, "_security")[0].code == "R"
    assert {entry.value for entry in of(found.uris, "_profile")} == {"http://a.org/profile|1.0", "http://a.org/profile"}
    assert of(found.uris, "_source") == [UriEntry("_source", "http://a.org/source")]
    assert of(found.tokens, "identifier") == [TokenEntry("identifier", "http://h.org", "7")]
    assert of(found.tokens, "active") == [TokenEntry("active", "", "true")]
    assert of(found.tokens, "gender") == [TokenEntry("gender", "http://hl7.org/fhir/administrative-gender", "female")]
    assert of(found.tokens, "phone") == [TokenEntry("phone", "", "1")]
    assert of(found.tokens, "email") == [TokenEntry("email", "", "a@b.org")]
    assert of(found.tokens, "deceased") == [TokenEntry("deceased", "", "false")]
    assert of(found.strings, "family") == [
        StringEntry("family", "van der berg", "van der Berg"),
        StringEntry("family", "der berg", None),
        StringEntry("family", "berg", None),
    ]
    assert of(found.strings, "given") == [StringEntry("given", "ann", "Ann")]
    assert of(found.references, "general-practitioner") == [
        ReferenceEntry("general-practitioner", ResourceKey("Practitioner", "1"), "")
    ]
    assert of(found.uris, "general-practitioner") == [
        UriEntry("general-practitioner", "http://other.org/Practitioner/2")
    ]
    assert of(found.tokens, "organization") == [TokenEntry("organization", "http://h.org", "org")]
    assert found.dates == []
    assert not of(found.tokens, "_id")
    assert found.compartments == [ResourceKey("Practitioner", "1"), ResourceKey("Patient", "p")]


OBSERVATION = {
    "resourceType": "Observation",
    "id": "o",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
    "subject": {"reference": "Patient/p"},
    "encounter": {"reference": "Encounter/e/_history/3"},
    "performer": [{"reference": "http://localhost/fhir/Practitioner/d"}],
    "effectivePeriod": {"start": "2024-01-01", "end": "2024-01-02"},
    "component": [
        {
            "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
            "valueQuantity": {"value": 120, "system": "http://unitsofmeasure.org", "code": "mm[Hg]"},
        },
        {
            "code": {"coding": [{"system": "http://loinc.org", "code": "8462-4"}]},
            "valueQuantity": {"value": 80, "system": "http://unitsofmeasure.org", "code": "mm[Hg]"},
        },
        {"code": {"coding": [{"system": "http://loinc.org", "code": "absent"}]}, "valueString": "x"},
    ],
}


def test_composites_number_their_tuples_and_leave_out_the_incomplete(extractor):
    found = entries(extractor, OBSERVATION)
    code, value = "component-code-value-quantity/1", "component-code-value-quantity/2"
    assert [(entry.code, entry.group) for entry in of(found.tokens, code)] == [("8480-6", 1), ("8462-4", 2)]
    assert [(entry.low, entry.group) for entry in of(found.quantities, value)] == [(Decimal(120), 1), (Decimal(80), 2)]
    assert of(found.tokens, "code-value-quantity/1") == []


def test_a_component_may_start_at_the_resource(extractor):
    sequence = {
        "resourceType": "MolecularSequence",
        "coordinateSystem": 0,
        "referenceSeq": {"chromosome": {"coding": [{"code": "7"}]}, "windowStart": 1, "windowEnd": 9},
        "variant": [{"start": 1, "end": 2}, {"start": 5, "end": 6}],
    }
    found = entries(extractor, sequence)
    code = "chromosome-variant-coordinate"
    assert [(entry.code, entry.group) for entry in of(found.tokens, f"{code}/1")] == [("7", 1), ("7", 2)]
    assert [(entry.low, entry.group) for entry in of(found.numbers, f"{code}/3")] == [(Decimal(2), 1), (Decimal(6), 2)]


def test_compartments_follow_the_definition(extractor):
    found = entries(extractor, OBSERVATION)
    assert set(found.compartments) == {
        ResourceKey("Patient", "p"),
        ResourceKey("Encounter", "e"),
        ResourceKey("Practitioner", "d"),
    }
    assert of(found.references, "encounter") == [ReferenceEntry("encounter", ResourceKey("Encounter", "e"), "3")]
    group = entries(extractor, OBSERVATION, subject={"reference": "Group/g"}, encounter={"display": "x"}, performer=[])
    assert group.compartments == []


def test_contained_resources_have_entries_of_their_own(extractor):
    request = {
        "resourceType": "MedicationRequest",
        "id": "r",
        "contained": [
            {
                "resourceType": "Medication",
                "id": "m",
                "code": {"coding": [{"code": "a"}]},
                "manufacturer": {"reference": "#o"},
            },
            {"resourceType": "Organization", "id": "o", "name": "Maker"},
        ],
        "medicationReference": {"reference": "#m"},
        "subject": {"reference": "#missing"},
    }
    found = entries(extractor, request)
    assert of(found.references, "medication") == [ReferenceEntry("medication", ResourceKey("Medication", "r#m"), "")]
    assert of(found.uris, "subject") == [UriEntry("subject", "#missing")]
    assert set(found.contained) == {("Medication", "m"), ("Organization", "o")}
    inner = found.contained["Medication", "m"]
    assert of(inner.tokens, "code") == [TokenEntry("code", "", "a")]
    assert of(inner.references, "manufacturer") == [
        ReferenceEntry("manufacturer", ResourceKey("Organization", "r#o"), "")
    ]
    assert not of(found.tokens, "code")
    assert found.compartments == []


@pytest.mark.parametrize(
    ("kind", "first", "code"), [("document", "Composition", "composition"), ("message", "MessageHeader", "message")]
)
def test_the_first_entry_of_a_document_or_message_is_reached(extractor, kind, first, code):
    bundle = {
        "resourceType": "Bundle",
        "id": "b",
        "type": kind,
        "entry": [
            {"resource": {"resourceType": first, "id": "c", "language": "en"}},
            {"resource": {"resourceType": "Patient", "id": "p"}},
        ],
    }
    found = entries(extractor, bundle)
    assert of(found.references, code) == [ReferenceEntry(code, ResourceKey(first, "b#c"), "")]
    assert set(found.contained) == {(first, "c")}
    assert entries(extractor, bundle, type="collection").contained == {}


def test_extensions_are_searched_by_their_value(extractor):
    url = "http://hl7.org/fhir/StructureDefinition/patient-extensions-Patient-mothersMaidenName"
    found = entries(
        extractor, {"resourceType": "Patient"}, extension=[{"url": url, "valueString": "Smith"}, {"url": "x"}]
    )
    assert of(found.strings, "mothersMaidenName") == [StringEntry("mothersMaidenName", "smith", "Smith")]


def test_codes_have_the_system_of_their_binding(extractor):
    found = entries(
        extractor,
        {
            "resourceType": "SearchParameter",
            "type": "token",
            "base": ["Patient"],
            "url": "http://a.org/x",
            "status": "draft",
        },
    )
    assert of(found.tokens, "type") == [TokenEntry("type", "http://hl7.org/fhir/search-param-type", "token")]
    assert of(found.tokens, "base") == [TokenEntry("base", "http://hl7.org/fhir/resource-types", "Patient")]


def test_times_without_offset_are_read_in_the_zone():
    extractor = Extractor(DEFINITIONS, Plain(), BASES, timezone(timedelta(hours=2)))
    found = entries(extractor, {"resourceType": "Patient"}, birthDate="1970-01-01")
    assert of(found.dates, "birthdate")[0].low == -2 * 3_600_000_000


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [("Patient.name.given.first()", ["ann"]), ("Patient.name.where(use.empty()).given", ["ann"])],
)
def test_a_parameter_beyond_closures_goes_through_fhirpathpy(expression, wanted):
    custom = Parameter("Patient", "first", "string", "http://a.org/first", expression)
    found = entries(Extractor(DEFINITIONS, Plain(custom), BASES), PATIENT)
    assert [entry.folded for entry in of(found.strings, "first")] == wanted


@pytest.mark.shared
def test_every_synthea_resource_has_entries(extractor, shared_data):
    counts = []
    for file in sorted((shared_data / "synthea").glob("*.json.gz"))[:5]:
        for entry in json.loads(gzip.decompress(file.read_bytes()), parse_float=Decimal)["entry"]:
            found = entries(extractor, entry["resource"])
            lists = [
                getattr(found, name) for name in ("tokens", "strings", "dates", "quantities", "references", "uris")
            ]
            assert all(len(rows) == len(set(rows)) for rows in lists)
            counts.append(sum(map(len, lists)))
    assert min(counts) >= 3
    assert statistics.median(counts) < 30


def test_contained_resources_cost_the_same_each_however_many_there_are():
    def counted(many):
        contained = [Counting({"resourceType": "Organization", "id": f"o{at}"}) for at in range(many)]
        Counting.looks = 0
        Extractor(DEFINITIONS, Plain(), BASES).extract(
            {"resourceType": "Patient", "contained": contained}, ResourceKey("Patient", "p")
        )
        return Counting.looks

    assert counted(40) == 4 * counted(10)


class Counting(dict):
    """A resource that counts how often its members are looked up."""

    looks = 0

    def __getitem__(self, name):
        Counting.looks += 1
        return super().__getitem__(name)
