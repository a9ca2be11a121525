"""Distil UCUM: `python -m terminology.ucum.build` writes units.json.gz beside this file.

The source is ucum-essence.xml (UCUM 2.2, https://ucum.org, used under its licence) as the package ucumvert carries it, and
ucumvert's grammar. The result holds every atom and prefix as an exact fraction over base dimensions, and the canonical form of
some thousand common codes, so that a server hardly ever needs the grammar. A rebuild gives identical bytes.

Base dimensions are UCUM's (m s g rad K C cd), the mole (UCUM makes it a bare number; a glucose of 5 mmol/L must not be found by
a search for a cell count per litre) and each arbitrary unit that is not defined by another.
"""

import gzip
import json
import xml.etree.ElementTree as ET
from fractions import Fraction
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

from terminology.ucum.expressions import Atoms, Canonical, evaluate

_XML = "{http://unitsofmeasure.org/ucum-essence}"
_NUMERATORS = (
    "Gg kg g mg ug ng pg fg mol mmol umol nmol pmol fmol eq meq ueq osm mosm kat mkat ukat nkat U kU mU uU nU "
    "[iU] k[iU] m[iU] u[iU] [IU] m[IU] k[IU] [arb'U] [GPL'U] [MPL'U] [CFU] 10*3 10*6 10*9 10*12 L dL mL uL nL fL "
    "kJ J cal kcal [Cal] m cm mm um nm m2 cm2 mm2 mm[Hg] cm[H2O] kPa Pa bar s ms min h d wk mo a Gy mGy Sv mSv Bq MBq "
    "V mV A mA W Hz kHz MHz [in_i] [ft_i] [lb_av] [oz_av] [degF] Cel K % 1 [ppm] [ppb] [pH] deg rad dB"
)
_DENOMINATORS = (
    "/L /dL /mL /uL /nL /m3 /kg /g /mg /ug /mol /mmol /d /h /min /s /wk /m2 /1 /min/kg /h/kg /d/kg /min/m2 /[HPF] "
    ".h/L .h/mL .min /[LPF] /(24.h) /(8.h) /(12.h) /m /cm /{cells} /10*6 /10*9 /10*12 /L/h /[iU]"
)


def main() -> None:
    """Write the table; see the module's docstring."""
    Path(__file__).with_name("units.json.gz").write_bytes(distilled())


def distilled() -> bytes:
    """The content of units.json.gz."""
    package = files("ucumvert") / "vendor"
    root = ET.fromstring((package / "ucum-essence.xml").read_text(encoding="utf-8"))  # noqa: S314
    atoms = _atoms(root)
    examples = [
        line.split("\t")[1] for line in (package / "ucum_examples.tsv").read_text(encoding="utf-8").splitlines()[1:]
    ]
    codes = {*examples, *atoms.units, *(a + b for a, b in product(_NUMERATORS.split(), ["", *_DENOMINATORS.split()]))}
    codes |= {prefix + unit for prefix in atoms.prefixes for unit in atoms.metric}
    table: dict[str, Any] = {code: _row(evaluate(code, atoms)) for code in sorted(codes)}
    data = {
        "prefixes": {name: str(value) for name, value in atoms.prefixes.items()},
        "units": {name: None if value is None else _row(value) for name, value in atoms.units.items()},
        "codes": table,
    }
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return gzip.compress(text.encode(), 9, mtime=0)


def _row(value: Canonical | None) -> list[Any] | None:
    return None if value is None else [str(value.factor), dict(value.dimensions)]


def _atoms(root: ET.Element) -> Atoms:
    prefixes = {e.attrib["Code"]: Fraction(e.find(f"{_XML}value").attrib["value"]) for e in root.iter(f"{_XML}prefix")}  # type: ignore[union-attr]
    units: dict[str, Canonical | None] = {
        e.attrib["Code"]: Canonical(Fraction(1), ((e.attrib["Code"], 1),)) for e in root.iter(f"{_XML}base-unit")
    }
    metric = list(units)
    waiting = {}
    for element in root.iter(f"{_XML}unit"):
        code, value = element.attrib["Code"], element.find(f"{_XML}value")
        if element.attrib["isMetric"] == "yes":
            metric.append(code)
        if element.get("isSpecial") == "yes":
            units[code] = None
        elif code == "mol" or (element.get("isArbitrary") == "yes" and value.attrib["Unit"] == "1"):  # type: ignore[union-attr]
            units[code] = Canonical(Fraction(1), ((code, 1),))
        else:
            waiting[code] = (Fraction(value.attrib["value"]), value.attrib["Unit"])  # type: ignore[union-attr]
    atoms = Atoms(prefixes, units, tuple(metric))
    while waiting:
        known = len(waiting)
        for code, (number, definition) in list(waiting.items()):
            try:
                found = evaluate(definition, atoms)
            except KeyError:
                continue
            units[code] = None if found is None else Canonical(found.factor * number, found.dimensions)
            del waiting[code]
        if len(waiting) == known:
            raise SystemExit(f"UCUM units defined by nothing known: {sorted(waiting)}")
    return atoms


if __name__ == "__main__":
    main()
