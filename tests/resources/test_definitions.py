"""The distilled definitions: the specification's counts, facts read off its pages, and how build.py makes them.

The last tests need HL7's package: FHIR_DEFINITIONS_PACKAGE names hl7.fhir.r4.core 4.0.1 as .tgz.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from resources.definitions import build, distil_terms, load

R4 = Path(build.__file__).parent / "r4"
LANGUAGES = "http://hl7.org/fhir/ValueSet/all-languages"
VS = "http://hl7.org/fhir/ValueSet/"
PARTS = ("code_systems", "search", "types", "value_set_definitions", "value_sets")
CHOICES = (
    "Quantity",
    "CodeableConcept",
    "String",
    "Boolean",
    "Integer",
    "Range",
    "Ratio",
    "SampledData",
    "Time",
    "DateTime",
    "Period",
)
PRIMITIVES = (
    "base64Binary boolean canonical code date dateTime decimal id instant integer markdown oid positiveInt string time "
    "unsignedInt uri url uuid xhtml"
)


@pytest.fixture(scope="module")
def definitions():
    return load()


@pytest.fixture(scope="module")
def every_type(definitions):
    return [definitions.types[name] for name in definitions.types]


# ---- counts


def test_there_are_146_concrete_resource_types(definitions):
    assert len(definitions.resource_types) == 146
    assert list(definitions.resource_types) == sorted(definitions.resource_types)
    for name in definitions.resource_types:
        assert definitions.is_resource(name)
        assert (definitions.types[name].kind, definitions.types[name].abstract) == ("resource", False)


@pytest.mark.parametrize("name", ["Resource", "DomainResource", "HumanName", "Patient.contact", "patient", "Unicorn"])
def test_is_no_concrete_resource_type(definitions, name):
    assert not definitions.is_resource(name)


def test_primitives_are_the_twenty_of_the_specification(every_type):
    assert sorted(t.name for t in every_type if t.kind == "primitive-type") == PRIMITIVES.split()


def test_of_1400_search_parameters_16_have_no_expression(definitions):
    found = definitions.search_parameters
    assert len(found) == len({p.url for p in found}) == 1400
    without = {p.code for p in found if p.expression is None}
    assert sum(p.expression is None for p in found) == 16
    assert {"_text", "_content", "_query", "_filter"} <= without


def test_there_are_46_operations_without_the_package_s_example(definitions):
    assert len(definitions.operations) == 46
    assert "populate" not in {o.code for o in definitions.operations}


def test_there_are_5_compartments_without_the_package_s_example(definitions):
    assert set(definitions.compartments) == {"Patient", "Encounter", "RelatedPerson", "Practitioner", "Device"}


def test_224_value_sets_are_required_and_three_are_not_enumerable(definitions):
    assert len(definitions.required_value_sets) == 224
    unknown = {url for url in definitions.required_value_sets if definitions.value_set(url) is None}
    assert unknown == {f"{VS}mimetypes", f"{VS}ucum-units", "http://loinc.org/vs/LL379-9"}


def test_205_error_invariants_with_203_keys(every_type):
    """Distinct by key, text and expression; two keys are published with two expressions each."""
    found = {c for t in every_type for c in t.constraints}
    found |= {c for t in every_type for e in t.elements.values() for c in e.constraints}
    assert (len(found), len({c.key for c in found})) == (205, 203)


# ---- coherence


def test_every_type_and_target_that_an_element_names_is_defined(definitions, every_type):
    for definition in every_type:
        for element in definition.elements.values():
            for name in (*element.types, *element.targets):
                assert name in definitions.types, (definition.name, element.name, name)
            assert element.types
            assert element.binding in {None, LANGUAGES, *definitions.required_value_sets}


def test_every_base_is_defined_and_ends_at_resource_or_element(definitions, every_type):
    for definition in every_type:
        name = definition.name
        while (base := definitions.types[name].base) is not None:
            name = base
        assert name in {"Resource", "Element"}


def test_properties_of_a_type_do_not_clash(every_type):
    for definition in every_type:
        expected = sum(len(e.types) if e.choice else 1 for e in definition.elements.values())
        assert len(definition.properties) == expected, definition.name


def test_bases_targets_and_components_of_search_parameters_are_defined(definitions):
    urls = {p.url for p in definitions.search_parameters}
    for parameter in definitions.search_parameters:
        assert all(name in definitions.types for name in (*parameter.bases, *parameter.targets)), parameter.url
        assert all(component.definition in urls for component in parameter.components), parameter.url
        assert bool(parameter.components) == (parameter.type == "composite")


def test_compartment_members_are_resource_types(definitions):
    for compartment in definitions.compartments.values():
        assert all(definitions.is_resource(name) and codes for name, codes in compartment.members.items())


# ---- facts from the specification's pages


def test_value_of_an_observation_has_eleven_types_and_as_many_properties(definitions):
    observation = definitions.types["Observation"]
    assert observation.elements["value"].choice
    assert [name for name, p in observation.properties.items() if p.element.name == "value"] == [
        f"value{c}" for c in CHOICES
    ]
    assert observation.properties["valueQuantity"].type == "Quantity"
    assert observation.properties["valueDateTime"].type == "dateTime"
    assert "value" not in observation.properties


def test_an_extension_s_value_has_the_fifty_open_types(definitions):
    assert len(definitions.types["Extension"].elements["value"].types) == 50


def test_contact_of_a_patient_is_a_backbone_with_its_invariant(definitions):
    element, contact = definitions.types["Patient"].elements["contact"], definitions.types["Patient.contact"]
    assert (element.types, element.min, element.max) == (("Patient.contact",), 0, None)
    assert (contact.kind, contact.base) == ("backbone", "BackboneElement")
    assert list(contact.elements) == [
        *("id", "extension", "modifierExtension"),
        *("relationship", "name", "telecom", "address", "gender", "organization", "period"),
    ]
    assert {c.key for c in contact.constraints} == {"ele-1", "pat-1"}
    assert element.constraints == ()


@pytest.mark.parametrize(
    ("owner", "element", "target"),
    [
        ("Questionnaire.item", "item", "Questionnaire.item"),
        ("QuestionnaireResponse.item.answer", "item", "QuestionnaireResponse.item"),
        ("Bundle.entry", "link", "Bundle.link"),
        ("Observation.component", "referenceRange", "Observation.referenceRange"),
        ("Parameters.parameter", "part", "Parameters.parameter"),
        ("ValueSet.compose", "exclude", "ValueSet.compose.include"),
    ],
)
def test_a_content_reference_names_the_backbone_it_repeats(definitions, owner, element, target):
    assert definitions.types[owner].elements[element].types == (target,)


@pytest.mark.parametrize(
    ("owner", "element", "targets"),
    [
        ("Patient", "managingOrganization", ("Organization",)),
        ("Observation", "subject", ("Patient", "Group", "Device", "Location")),
        ("Provenance", "target", ("Resource",)),
        ("Reference", "identifier", ()),
        ("QuestionnaireResponse", "questionnaire", ("Questionnaire",)),
    ],
)
def test_targets_of(definitions, owner, element, targets):
    assert definitions.types[owner].elements[element].targets == targets


@pytest.mark.parametrize(
    ("owner", "element", "types"),
    [
        ("Patient", "id", ("id",)),
        ("HumanName", "id", ("string",)),
        ("Extension", "url", ("uri",)),
        ("Bundle.entry", "resource", ("Resource",)),
        ("Timing", "repeat", ("Timing.repeat",)),
        ("Narrative", "div", ("xhtml",)),
        ("Observation.component", "id", ("string",)),
        ("Claim", "total", ("Money",)),
    ],
)
def test_types_of(definitions, owner, element, types):
    assert definitions.types[owner].elements[element].types == types


def test_flags_bindings_and_cardinality(definitions):
    patient, observation = definitions.types["Patient"].elements, definitions.types["Observation"].elements
    assert (patient["active"].modifier, patient["active"].summary) == (True, True)
    assert (patient["photo"].modifier, patient["photo"].summary) == (False, False)
    assert patient["gender"].binding == f"{VS}administrative-gender"
    assert patient["maritalStatus"].binding is None  # extensible
    assert (observation["status"].min, observation["status"].max) == (1, 1)


def test_a_primitive_has_its_regex_and_no_value_element(definitions):
    positive = definitions.types["positiveInt"]
    assert (positive.pattern, positive.base) == ("[1-9][0-9]*", "integer")
    assert list(positive.elements) == ["id", "extension"]
    assert definitions.types["xhtml"].pattern is None


def test_a_primitive_s_elements_keep_only_their_own_invariants(definitions):
    assert [c.key for c in definitions.types["Narrative"].elements["div"].constraints] == ["txt-1", "txt-2"]
    assert [c.key for c in definitions.types["Period"].constraints] == ["ele-1", "per-1"]


def test_an_unknown_type_is_a_key_error(definitions):
    assert "Unicorn" not in definitions.types
    with pytest.raises(KeyError, match="Unicorn"):
        definitions.types["Unicorn"]


def test_administrative_gender_has_four_codes(definitions):
    found = definitions.value_set(f"{VS}administrative-gender")
    assert found.systems == {"http://hl7.org/fhir/administrative-gender": {"male", "female", "other", "unknown"}}
    assert found.has("other")
    assert not found.has("Male")


@pytest.mark.parametrize(
    ("value_set", "code"),
    [
        ("resource-types", "Patient"),
        ("currencies", "USD"),
        ("observation-status", "entered-in-error"),
        ("request-intent", "filler-order"),  # below `order`
        ("all-types", "BackboneElement"),  # two systems
        ("all-types", "Resource"),
    ],
)
def test_value_set_has(definitions, value_set, code):
    assert definitions.value_set(f"{VS}{value_set}").has(code)


@pytest.mark.parametrize("url", [f"{VS}all-languages", f"{VS}nothing"])
def test_no_codes_are_known_of(definitions, url):
    assert definitions.value_set(url) is None


def test_case_sensitive_systems(definitions):
    assert {
        "http://unitsofmeasure.org",
        "http://hl7.org/fhir/administrative-gender",
    } <= definitions.case_sensitive_systems
    assert "http://loinc.org" not in definitions.case_sensitive_systems


def test_a_composite_parameter(definitions):
    parameter = next(p for p in definitions.search_parameters if p.url.endswith("/Observation-code-value-quantity"))
    assert (parameter.code, parameter.type, parameter.bases, parameter.expression) == (
        *("code-value-quantity", "composite", ("Observation",), "Observation"),
    )
    assert [(c.definition.rpartition("/")[2], c.expression) for c in parameter.components] == [
        ("clinical-code", "code"),
        ("Observation-value-quantity", "value.as(Quantity)"),
    ]


def test_patient_compartment(definitions):
    members = definitions.compartments["Patient"].members
    assert members["Observation"] == ("subject", "performer")
    assert members["AllergyIntolerance"] == ("patient", "recorder", "asserter")
    assert "ActivityDefinition" not in members


def test_everything_is_an_operation_on_a_patient(definitions):
    found = next(o for o in definitions.operations if o.url.endswith("/Patient-everything"))
    assert (found.code, found.system, found.type, found.instance, found.resources) == (
        *("everything", False, True, True, ("Patient",)),
    )
    told = {one.name: (one.use, one.min, one.max, one.type) for one in found.parameters}
    assert told["_type"] == ("in", 0, None, "code")
    assert told["_since"] == ("in", 0, 1, "instant")
    assert told["return"] == ("out", 1, 1, "Bundle")


def test_a_parameter_without_type_consists_of_parts(definitions):
    found = next(o for o in definitions.operations if o.url.endswith("/CodeSystem-lookup"))
    (designation,) = (one for one in found.parameters if one.name == "designation")
    assert (designation.type, [part.name for part in designation.parts]) == (None, ["language", "use", "value"])


def test_code_systems_and_value_sets_are_kept_for_the_terminology_service(definitions):
    assert (len(definitions.code_systems), len(definitions.value_set_definitions)) == (1062, 1316)
    intent = definitions.code_systems["http://hl7.org/fhir/request-intent"]["concepts"]
    assert ["filler-order", ["order"], "Filler Order"] in intent
    assert definitions.value_set_definitions[f"{VS}administrative-gender"]["compose"]["include"]


def test_load_gives_one_object_and_reads_nothing_before_it_is_needed():
    script = """
from resources.definitions import load
definitions = load()
assert load() is definitions
assert not vars(definitions)
definitions.types["Patient"]
assert {"_search", "_value_sets", "code_systems", "value_set_definitions"}.isdisjoint(vars(definitions))
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=R4.parents[2])


# ---- value set expansion and reading a package

TREE = {
    "url": "urn:tree",
    "content": "complete",
    "concept": [
        {"code": "a", "display": "A", "concept": [{"code": "b"}, {"code": "c", "concept": [{"code": "d"}]}]},
        {"code": "e", "property": [{"code": "child", "valueCode": "b"}]},
    ],
}


def filtered(operation, value="a", name="concept"):
    return {"system": "urn:tree", "filter": [{"property": name, "op": operation, "value": value}]}


@pytest.mark.parametrize(
    ("compose", "codes"),
    [
        pytest.param({"include": [{"system": "urn:tree"}]}, "abcde", id="a whole system"),
        pytest.param({"include": [{"system": "urn:tree", "concept": [{"code": "d"}]}]}, "d", id="listed concepts"),
        pytest.param({"include": [filtered("is-a")]}, "abcd", id="is-a has the concept itself"),
        pytest.param({"include": [filtered("descendent-of")]}, "bcd", id="descendent-of has not"),
        pytest.param({"include": [filtered("is-not-a", "c")]}, "abe", id="is-not-a"),
        pytest.param({"include": [filtered("is-a", "e")]}, "be", id="the property child makes a parent"),
        pytest.param(
            {"include": [{"system": "urn:tree"}], "exclude": [filtered("is-a", "c")]}, "abe", id="excluded descendants"
        ),
        pytest.param({"include": [{"valueSet": ["urn:cd|1.0"]}]}, "cd", id="another value set, its version dropped"),
        pytest.param({"include": [{"valueSet": ["urn:cd", "urn:bc"]}]}, "c", id="two value sets intersect"),
        pytest.param({"include": [filtered("is-a", "e"), {"valueSet": ["urn:cd"]}]}, "bcde", id="includes unite"),
    ],
)
def test_expansion_of(compose, codes):
    listed = {
        f"urn:{name}": {"compose": {"include": [{"system": "urn:tree", "concept": [{"code": c} for c in name]}]}}
        for name in ("cd", "bc")
    }
    expander = distil_terms.Expander({**listed, "urn:x": {"compose": compose}}, {"urn:tree": TREE})
    assert expander.expand("urn:x") == {("urn:tree", code) for code in codes}


@pytest.mark.parametrize(
    ("part", "named"),
    [
        pytest.param({"system": "urn:other"}, "urn:other", id="a system that the package lacks"),
        pytest.param({"valueSet": ["urn:other"]}, "urn:other", id="a value set that the package lacks"),
        pytest.param(filtered("regex", "b.*", "code"), "code regex b", id="a filter that is not of the hierarchy"),
    ],
)
def test_not_enumerable(part, named):
    expander = distil_terms.Expander({"urn:x": {"compose": {"include": [part]}}}, {"urn:tree": TREE})
    with pytest.raises(distil_terms.NotEnumerableError, match=named):
        expander.expand("urn:x")


def test_build_refuses_another_package(tmp_path):
    manifest = tmp_path / "package.json"
    manifest.write_text(json.dumps({"name": "hl7.fhir.r5.core", "version": "5.0.0"}))
    archive = tmp_path / "r5.tgz"
    with build.tarfile.open(archive, "w:gz") as tar:
        tar.add(manifest, "package/package.json")
    with pytest.raises(ValueError, match=r"not the package hl7\.fhir\.r4\.core 4\.0\.1"):
        build.main(["--package", str(archive), "--out", str(tmp_path)])


# ---- with HL7's package


@pytest.fixture(scope="module")
def package():
    path = os.environ.get("FHIR_DEFINITIONS_PACKAGE")
    if not path:
        pytest.skip("FHIR_DEFINITIONS_PACKAGE does not name hl7.fhir.r4.core 4.0.1 (.tgz)")
    return Path(path)


@pytest.mark.shared
def test_a_rebuild_gives_identical_bytes(package, tmp_path):
    build.main(["--package", str(package), "--out", str(tmp_path)])
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in R4.iterdir())
    for part in PARTS:
        name = f"{part}.json.gz"
        assert (tmp_path / name).read_bytes() == (R4 / name).read_bytes(), name


@pytest.mark.shared
def test_the_package_publishes_8747_error_invariants_on_the_elements_of_types(package):
    """Counted once per snapshot element of every type, inherited ones included; profiles and logical models are not types."""
    published = build.read_package(package.read_bytes())["StructureDefinition"]
    types = [d for d in published if d.get("derivation") != "constraint" and d["kind"] != "logical"]
    elements = [e for d in types for e in d["snapshot"]["element"]]
    assert sum(c["severity"] == "error" for e in elements for c in e.get("constraint", ())) == 8747
