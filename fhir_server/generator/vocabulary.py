"""The words of the generated hospital: names, codes of LOINC, SNOMED CT, RxNorm, CVX and ICD-10, and what is normal.

Rules: codings are shared constants, never changed after they are made; reference ranges are those of ordinary adult care.

Specification: https://loinc.org, https://www.snomed.org, https://www.nlm.nih.gov/research/umls/rxnorm
"""

from typing import Any, NamedTuple

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
ICD10 = "http://hl7.org/fhir/sid/icd-10-cm"
CVX = "http://hl7.org/fhir/sid/cvx"
UCUM = "http://unitsofmeasure.org"
HL7 = "http://terminology.hl7.org/CodeSystem/"

FEMALE = (
    "Anaïs Zoë Chloé Noémie Inès Renée Ingrid Åsa Sølvi Márta Zsófia Łucja Bożena Jana Eliška Ayşe Gül María Lucía Begoña Inés "
    "Emma Olivia Sophia Amelia Grace Hannah Nora Ida Mei Yuki Priya Fatima Amara Leilani Siobhán Aoife Petra Anna Clara Lena"
)
MALE = (
    "André François Jérôme Loïc René Björn Håkon Søren Jürgen Jörg Łukasz Paweł Jiří Tomáš Gergő Ömer Emre José Ángel Íñigo "
    "Raúl Liam Noah James Henry Lucas Oscar Hugo Felix Max Wei Kenji Arjun Omar Kwame Keoni Seán Ciarán Peter Paul Jonas Leo"
)
FAMILY = (
    "Müller Schröder Groß Jäger Lefèvre Bélanger Françoise D'Angelo O'Connell Núñez Peña García Hernández Muñoz Åkesson Öberg "
    "Sørensen Nygård Kowalczyk Wiśniewski Dvořák Novák Szabó Őry Yılmaz Şahin Çelik Popović Đorđević Smith Johnson Brown Taylor "  # noqa: RUF001 - Turkish
    "Wilson Walker Baker Carter Hughes Bennett Murphy Nguyễn Trần Tanaka Chen Wang Kim Patel Singh Rossi Bianchi Haddad Okafor "
    "Mensah Kealoha van-Dijk Janssen Peeters Lindström Virtanen"
)
STREETS = (
    "Rue-de-l'Église Königstraße Calle-Mayor Ågatan High-Street Church-Road Mill-Lane Station-Road Parkvägen Via-Roma"
)
CITIES = (
    ("Zürich", "8001", "CH"),
    ("Köln", "50667", "DE"),
    ("Málaga", "29001", "ES"),
    ("Montréal", "H2Y 1C6", "CA"),
    ("Århus", "8000", "DK"),
    ("Łódź", "90-001", "PL"),
    ("Boston", "02115", "US"),
    ("Springfield", "01103", "US"),
)
LANGUAGES = (
    ("en", "English"),
    ("de", "German"),
    ("fr", "French"),
    ("es", "Spanish"),
    ("pl", "Polish"),
    ("da", "Danish"),
)


def coded(system: str, code: str, display: str) -> dict[str, Any]:
    """A CodeableConcept of one coding."""
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


class Department(NamedTuple):
    """A department: the id of its Organization is `department-<code>`."""

    code: str
    name: str
    specialty: dict[str, Any]
    share: int


DEPARTMENTS = (
    Department("internal", "Internal Medicine", coded(SNOMED, "419192003", "Internal medicine"), 4),
    Department("emergency", "Emergency", coded(SNOMED, "773568002", "Emergency medicine"), 2),
    Department("cardiology", "Cardiology", coded(SNOMED, "394579002", "Cardiology"), 2),
    Department("surgery", "Surgery", coded(SNOMED, "394609007", "General surgery"), 2),
    Department("paediatrics", "Pædiatrics", coded(SNOMED, "394537008", "Pediatric specialty"), 1),
    Department("gynaecology", "Gynæcology", coded(SNOMED, "394585009", "Obstetrics and gynecology"), 1),
    Department("neurology", "Neurology", coded(SNOMED, "394591006", "Neurology"), 1),
    Department("oncology", "Oncology", coded(SNOMED, "394593009", "Medical oncology"), 1),
)


class Drug(NamedTuple):
    """A medication, how often a day it is taken, and the unit of one dose."""

    concept: dict[str, Any]
    times: int
    unit: str


def _drug(code: str, display: str, times: int, unit: str = "TAB") -> Drug:
    return Drug(coded(RXNORM, code, display), times, unit)


PAIN = _drug("313782", "Acetaminophen 325 MG Oral Tablet", 3)
IBUPROFEN = _drug("310965", "Ibuprofen 200 MG Oral Tablet", 3)
ANTIBIOTIC = _drug("562251", "Amoxicillin 250 MG / Clavulanate 125 MG Oral Tablet", 2)


class Disorder(NamedTuple):
    """A diagnosis with both codes, the drug given for it (or none) and the department that sees it."""

    concept: dict[str, Any]
    drug: Drug | None
    department: int
    panel: str


def _disorder(sct: str, icd: str, display: str, drug: Drug | None, department: int, panel: str) -> Disorder:
    concept = {
        "coding": [
            {"system": SNOMED, "code": sct, "display": display},
            {"system": ICD10, "code": icd, "display": display},
        ],
        "text": display,
    }
    return Disorder(concept, drug, department, panel)


CHRONIC = (
    _disorder("38341003", "I10", "Hypertension", _drug("197361", "Amlodipine 5 MG Oral Tablet", 1), 2, "metabolic"),
    _disorder(
        "44054006",
        "E11.9",
        "Diabetes mellitus type 2",
        _drug("860975", "Metformin hydrochloride 500 MG", 2),
        0,
        "diabetes",
    ),
    _disorder("55822004", "E78.5", "Hyperlipidemia", _drug("312961", "Simvastatin 20 MG Oral Tablet", 1), 0, "lipids"),
    _disorder(
        "195967001", "J45.909", "Asthma", _drug("745679", "Albuterol 0.09 MG/ACTUAT Inhaler", 2, "{puff}"), 0, "blood"
    ),
    _disorder(
        "53741008", "I25.10", "Coronary heart disease", _drug("309362", "Clopidogrel 75 MG Oral Tablet", 1), 2, "lipids"
    ),
    _disorder(
        "49436004", "I48.91", "Atrial fibrillation", _drug("855332", "Warfarin Sodium 5 MG Oral Tablet", 1), 2, "blood"
    ),
    _disorder("271737000", "D64.9", "Anemia", _drug("310325", "ferrous sulfate 325 MG Oral Tablet", 1), 0, "blood"),
    _disorder(
        "64859006", "M81.0", "Osteoporosis", _drug("904419", "Alendronic acid 10 MG Oral Tablet", 1), 0, "metabolic"
    ),
    _disorder("239873007", "M17.9", "Osteoarthritis of knee", IBUPROFEN, 3, "blood"),
    _disorder("37796009", "G43.909", "Migraine", IBUPROFEN, 6, "metabolic"),
)
ACUTE = (
    _disorder("444814009", "J01.90", "Viral sinusitis", PAIN, 0, "blood"),
    _disorder("10509002", "J20.9", "Acute bronchitis", ANTIBIOTIC, 0, "blood"),
    _disorder("195662009", "J02.9", "Acute viral pharyngitis", PAIN, 0, "blood"),
    _disorder("68566005", "N39.0", "Urinary tract infection", ANTIBIOTIC, 0, "metabolic"),
    _disorder("44465007", "S93.409A", "Sprain of ankle", IBUPROFEN, 1, "blood"),
    _disorder("65966004", "S52.90XA", "Fracture of forearm", PAIN, 1, "blood"),
    _disorder("284549007", "S61.419A", "Laceration of hand", None, 1, "blood"),
    _disorder("74400008", "K37", "Appendicitis", ANTIBIOTIC, 3, "blood"),
    _disorder("25374005", "K52.9", "Gastroenteritis", None, 1, "metabolic"),
    _disorder("65363002", "H66.90", "Otitis media", ANTIBIOTIC, 4, "blood"),
    _disorder("29857009", "R07.9", "Chest pain", None, 2, "metabolic"),
    _disorder("25064002", "R51.9", "Headache", PAIN, 6, "metabolic"),
)


class Measurement(NamedTuple):
    """What is measured: its code, unit, usual value, spread, decimals and reference range."""

    concept: dict[str, Any]
    unit: str
    mean: float
    spread: float
    decimals: int
    low: float
    high: float


def _measure(
    code: str, display: str, unit: str, mean: float, spread: float, decimals: int, low: float, high: float
) -> Measurement:
    return Measurement(coded(LOINC, code, display), unit, mean, spread, decimals, low, high)


VITALS = (
    _measure("8867-4", "Heart rate", "/min", 74, 9, 0, 60, 100),
    _measure("8310-5", "Body temperature", "Cel", 36.8, 0.4, 1, 36.1, 37.8),
    _measure("9279-1", "Respiratory rate", "/min", 15, 2, 0, 12, 20),
    _measure("2708-6", "Oxygen saturation in Arterial blood", "%", 97, 1.2, 0, 94, 100),
    _measure("29463-7", "Body weight", "kg", 76, 2, 1, 45, 110),
)
SYSTOLIC = _measure("8480-6", "Systolic blood pressure", "mm[Hg]", 126, 12, 0, 90, 140)
DIASTOLIC = _measure("8462-4", "Diastolic blood pressure", "mm[Hg]", 79, 8, 0, 60, 90)
PRESSURE = coded(LOINC, "85354-9", "Blood pressure panel with all children optional")

PANELS: dict[str, tuple[dict[str, Any], tuple[Measurement, ...]]] = {
    "blood": (
        coded(LOINC, "58410-2", "CBC panel - Blood by Automated count"),
        (
            _measure("6690-2", "Leukocytes [#/volume] in Blood by Automated count", "10*3/uL", 7.2, 1.6, 1, 4.0, 11.0),
            _measure("789-8", "Erythrocytes [#/volume] in Blood by Automated count", "10*6/uL", 4.8, 0.4, 2, 4.1, 5.6),
            _measure("718-7", "Hemoglobin [Mass/volume] in Blood", "g/dL", 14.1, 1.1, 1, 12.0, 17.0),
            _measure("4544-3", "Hematocrit [Volume Fraction] of Blood by Automated count", "%", 42, 3, 1, 36, 50),
            _measure("787-2", "MCV [Entitic volume] by Automated count", "fL", 89, 4, 1, 80, 100),
            _measure("777-3", "Platelets [#/volume] in Blood by Automated count", "10*3/uL", 250, 45, 0, 150, 400),
        ),
    ),
    "metabolic": (
        coded(LOINC, "51990-0", "Basic metabolic panel - Blood"),
        (
            _measure("2339-0", "Glucose [Mass/volume] in Blood", "mg/dL", 94, 11, 1, 70, 110),
            _measure("6299-2", "Urea nitrogen [Mass/volume] in Blood", "mg/dL", 14, 3, 1, 7, 20),
            _measure("38483-4", "Creatinine [Mass/volume] in Blood", "mg/dL", 0.95, 0.18, 2, 0.6, 1.3),
            _measure("2947-0", "Sodium [Moles/volume] in Blood", "mmol/L", 140, 2, 0, 136, 145),
            _measure("6298-4", "Potassium [Moles/volume] in Blood", "mmol/L", 4.2, 0.4, 1, 3.5, 5.1),
            _measure("2069-3", "Chloride [Moles/volume] in Blood", "mmol/L", 102, 2.5, 0, 98, 107),
        ),
    ),
    "lipids": (
        coded(LOINC, "57698-3", "Lipid panel with direct LDL - Serum or Plasma"),
        (
            _measure("2093-3", "Cholesterol [Mass/volume] in Serum or Plasma", "mg/dL", 195, 25, 0, 120, 200),
            _measure("2571-8", "Triglyceride [Mass/volume] in Serum or Plasma", "mg/dL", 130, 35, 0, 50, 150),
            _measure(
                "18262-6",
                "Cholesterol in LDL [Mass/volume] in Serum or Plasma by Direct assay",
                "mg/dL",
                115,
                22,
                0,
                60,
                130,
            ),
            _measure("2085-9", "Cholesterol in HDL [Mass/volume] in Serum or Plasma", "mg/dL", 54, 9, 0, 40, 90),
        ),
    ),
    "diabetes": (
        coded(LOINC, "55399-0", "Diabetes tracking panel"),
        (
            _measure("4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood", "%", 6.9, 0.7, 1, 4.0, 6.5),
            _measure("2339-0", "Glucose [Mass/volume] in Blood", "mg/dL", 138, 22, 1, 70, 110),
            _measure("38483-4", "Creatinine [Mass/volume] in Blood", "mg/dL", 1.0, 0.2, 2, 0.6, 1.3),
        ),
    ),
}

VACCINES = (
    coded(CVX, "140", "Influenza, seasonal, injectable, preservative free"),
    coded(CVX, "113", "Td (adult) preservative free"),
    coded(CVX, "133", "Pneumococcal conjugate PCV 13"),
    coded(CVX, "121", "zoster"),
)
ALLERGIES = (
    (coded(SNOMED, "91930004", "Allergy to eggs"), "food"),
    (coded(SNOMED, "300913006", "Shellfish allergy"), "food"),
    (coded(SNOMED, "300916003", "Latex allergy"), "environment"),
    (coded(SNOMED, "418689008", "Allergy to grass pollen"), "environment"),
    (coded(SNOMED, "91936005", "Allergy to penicillin"), "medication"),
)
PROCEDURES = (
    coded(SNOMED, "428191000124101", "Documentation of current medications"),
    coded(SNOMED, "127783003", "Spirometry (procedure)"),
    coded(SNOMED, "73761001", "Colonoscopy"),
    coded(SNOMED, "29303009", "Electrocardiographic procedure"),
    coded(SNOMED, "76601001", "Intramuscular injection"),
)
