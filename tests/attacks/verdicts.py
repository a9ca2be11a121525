"""What an attack on data must end with."""

import json

import httpx2

HIDDEN = ("quagga", "okapi", "numbat")


def tells_nothing(answer: httpx2.Response, *words: str) -> bool:
    """Whether the answer says nothing hidden but what was asked by; `words`: those of hidden things, when not the usual."""
    asked = f"{answer.request.url} {answer.request.content.decode('latin-1')} {answer.request.headers}"
    said = f"{answer.text} {answer.headers}"
    return answer.status_code < 500 and not any(word in said and word not in asked for word in words or HIDDEN)


def is_unknown(answer: httpx2.Response) -> bool:
    """Whether it is the 404 of what is not there."""
    return answer.status_code == 404 and answer.json()["issue"][0]["code"] in ("not-found", "not-supported")


def is_refused(answer: httpx2.Response) -> bool:
    """Whether it is a 4xx that says why as an OperationOutcome."""
    return 400 <= answer.status_code < 500 and answer.json()["resourceType"] == "OperationOutcome"


def alike(hidden: httpx2.Response, missing: httpx2.Response, word: str, absent: str) -> bool:
    """Whether two answers differ in nothing but the word that was asked by."""

    def shown(answer: httpx2.Response, said: str) -> tuple:
        headers = {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}
        return answer.status_code, str(headers).replace(said, "?"), answer.text.replace(said, "?")

    return len(word) == len(absent) and shown(hidden, word) == shown(missing, absent)


def ids(answer: httpx2.Response) -> list[str]:
    """`Type/id` of the entries of a Bundle."""
    assert answer.status_code == 200, answer.text
    resources = [entry["resource"] for entry in answer.json().get("entry", ()) if "resource" in entry]
    return [f"{one['resourceType']}/{one.get('id')}" for one in resources if one["resourceType"] != "OperationOutcome"]


def bundle(kind: str, *entries: dict) -> str:
    """A Bundle to be posted."""
    return json.dumps({"resourceType": "Bundle", "type": kind, "entry": list(entries)})


def entry(method: str, url: str, resource: dict | None = None, **conditions: str) -> dict:
    """An entry of one."""
    found: dict = {"request": {"method": method, "url": url, **conditions}}
    return found if resource is None else {**found, "resource": resource}


def inner(answer: httpx2.Response) -> list[int]:
    """The statuses of the entries of a response Bundle."""
    assert answer.status_code == 200, answer.text
    return [int(one["response"]["status"][:3]) for one in answer.json()["entry"]]
