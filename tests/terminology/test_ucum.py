"""UCUM: equal quantities have equal canonical forms, unequal kinds never do."""

import gzip
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminology import ucum
from terminology.ucum import build, canonical

COMMON = ["kg", "g", "mg", "ug", "ng", "[lb_av]", "[oz_av]"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("5.4 g", "5400 mg"),
        ("1 mg/dL", "10 mg/L"),
        ("1 mg/dL", "0.01 kg/m3"),
        ("60 /min", "1 Hz"),
        ("1 U/L", "1 umol/min/L"),
        ("1 mm[Hg]", "133.322 Pa"),
        ("1 10*3/uL", "1 10*9/L"),
        ("100 %", "1 1"),
        ("1 [in_i]", "2.54 cm"),
        ("1 [lb_av]", "453.59237 g"),
        ("1 wk", "7 d"),
        ("1 [IU]/L", "1 [iU]/L"),
        ("1 m[iU]/mL", "1 [iU]/L"),
        ("1 mg{creatinine}", "1 mg"),
        ("1 kcal", "4184 J"),
        ("1 L", "1 dm3"),
        ("1 mmol/L{blood}", "1 mol/m3"),
        ("1 kg.m/s2", "1 N"),
        ("1 10*3{cells}/uL", "1 10*9/L"),
        ("7 cm2.kg-1", "0.7 mm2/g"),
    ],
)
def test_equal_quantities_have_equal_forms(first, second):
    forms = [canonical(Decimal(value), code) for value, code in (text.split() for text in (first, second))]
    assert forms[0] is not None
    assert forms[0] == forms[1]


@pytest.mark.parametrize(
    "codes",
    [
        ("U/L", "[iU]/L"),
        ("[iU]", "[arb'U]"),
        ("mg", "mL"),
        ("mmol/L", "10*3/uL"),
        ("Pa", "J"),
        ("eq", "g"),
        ("rad", "1"),
    ],
)
def test_different_kinds_never_meet(codes):
    first, second = (canonical(Decimal(1), code) for code in codes)
    assert first is not None
    assert second is not None
    assert first[1] != second[1]


@pytest.mark.parametrize(
    "code",
    [
        "[pH]",
        "B",
        "dB",
        "B[SPL]",
        "{score}",
        "/{HPF}",
        "",
        "foo",
        "mg/",
        "m g",
        "mg/Cel",
        "Cel/min",
        "mCel",
        "µg",
        "x" * 500,
        "((g)",
        "m-0",
    ],
)
def test_special_units_annotations_and_what_is_no_ucum_do_not_convert(code):
    assert canonical(Decimal("37.0"), code) is None


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9),
    st.sampled_from(COMMON),
    st.sampled_from(COMMON),
)
def test_order_is_kept_through_conversion(value, code, other):
    first, second = canonical(value, code), canonical(value + 1, code)
    assert first is not None
    assert second is not None
    assert first[1] == second[1] == canonical(Decimal(1), other)[1]
    assert first[0] < second[0]


@given(st.integers(min_value=1, max_value=10**12))
def test_a_division_that_does_not_end_is_the_same_both_ways(count):
    assert canonical(Decimal(count) * 60, "/min") == canonical(Decimal(count), "/s")
    assert canonical(Decimal(count) * 1000, "mg/min") == canonical(Decimal(count), "g/min")


def test_what_overflows_has_no_form_and_what_is_huge_has_one():
    assert canonical(Decimal("1e999999999999999999"), "kg") is None
    assert canonical(Decimal("1e999999"), "kg") == (Decimal("1e1000002"), "g")


def test_the_table_and_the_grammar_agree():
    table = json.loads(gzip.decompress(Path(ucum.__file__).with_name("units.json.gz").read_bytes()))["codes"]
    assert len(table) > 4000
    for code in sorted(table)[::97]:
        row = ucum._evaluated(code)
        assert (None if row is None else (row[0], dict(row[1]))) == (
            table[code] and (table[code][0], dict(table[code][1]))
        ), code


@pytest.mark.parametrize(
    ("value", "code", "kelvins"),
    [
        ("37", "Cel", "310.15"),
        ("-273.15", "Cel", "0"),
        ("98.6", "[degF]", "310.15"),
        ("-459.67", "[degF]", "0"),
        ("100", "[degF]", "310.9277777777777777777777777777778"),
        ("80", "[degRe]", "373.15"),
        ("310.15", "K", "310.15"),
    ],
)
def test_temperatures_become_kelvins(value, code, kelvins):
    assert canonical(Decimal(value), code) == (Decimal(kelvins), "K")


def test_a_rebuild_gives_identical_bytes(tmp_path):
    assert build.distilled() == Path(ucum.__file__).with_name("units.json.gz").read_bytes()


def test_common_units_need_no_grammar():
    program = (
        "import sys\nfrom decimal import Decimal\nfrom terminology.ucum import canonical\n"
        "assert canonical(Decimal(1), 'mg/dL')\nassert canonical(Decimal(1), '[pH]') is None\n"
        "assert not {'ucumvert', 'pint', 'lark'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
