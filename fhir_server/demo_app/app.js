// A public SMART client in one file: discovery, launch with PKCE, code for token, the patient.
// https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html
"use strict";

const CLIENT = "demo-app";
const STANDALONE = "launch/patient openid fhirUser offline_access patient/Patient.rs patient/Condition.rs";
const FROM_THE_RECORD = "launch openid fhirUser offline_access patient/Patient.rs patient/Condition.rs";
const { base, home } = document.body.dataset;
const at = (id) => document.getElementById(id);

function show(id, text) {
  at(id).textContent = text ?? "";
}

function fail(error) {
  show("fault", error.message);
  at("fault").hidden = false;
  at("start").hidden = false;
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function random() {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

async function answerOf(response) {
  const body = await response.json();
  if (!response.ok) {
    throw new Error(body.error_description ?? body.error ?? body.issue?.[0]?.diagnostics ?? `status ${response.status}`);
  }
  return body;
}

async function configuration() {
  return answerOf(await fetch(`${base}/.well-known/smart-configuration`));
}

async function launch(scope, handle) {
  const { authorization_endpoint } = await configuration();
  const [state, verifier] = [random(), random()];
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  sessionStorage.setItem(state, verifier);
  const target = new URL(authorization_endpoint);
  const parameters = {
    response_type: "code", client_id: CLIENT, redirect_uri: home, scope, state, aud: base,
    code_challenge: base64url(digest), code_challenge_method: "S256", ...(handle ? { launch: handle } : {}),
  };
  for (const [name, value] of Object.entries(parameters)) target.searchParams.set(name, value);
  location.assign(target);
}

async function tokenFor(parameters) {
  const { token_endpoint } = await configuration();
  return answerOf(await fetch(token_endpoint, { method: "POST", body: new URLSearchParams({ client_id: CLIENT, ...parameters }) }));
}

async function come(query) {
  const verifier = sessionStorage.getItem(query.get("state") ?? "");
  history.replaceState(null, "", home);
  if (!verifier) throw new Error("This answer belongs to no launch of this window.");
  sessionStorage.removeItem(query.get("state"));
  if (query.get("iss") !== base) throw new Error("This answer comes from another server.");
  if (query.has("error")) throw new Error(query.get("error_description") ?? query.get("error"));
  const token = await tokenFor({ grant_type: "authorization_code", code: query.get("code"), redirect_uri: home, code_verifier: verifier });
  await open(token);
}

async function read(token, path) {
  const headers = { Authorization: `Bearer ${token.access_token}`, Accept: "application/fhir+json" };
  return answerOf(await fetch(`${base}/${path}`, { headers }));
}

async function open(token) {
  const patient = await read(token, `Patient/${token.patient}`);
  const name = patient.name?.[0] ?? {};
  show("name", name.text ?? [...(name.given ?? []), name.family ?? ""].join(" "));
  show("patient", `Patient/${patient.id}`);
  show("birth-date", patient.birthDate);
  show("gender", patient.gender);
  show("granted", token.scope);
  show("user", token.id_token ? JSON.parse(atob(token.id_token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"))).sub : "");
  if (token.scope.includes("patient/Condition.")) {
    const found = await read(token, `Condition?patient=${patient.id}&_count=20`);
    for (const { resource } of found.entry ?? []) {
      const item = document.createElement("li");
      item.textContent = resource.code?.text ?? resource.code?.coding?.[0]?.display ?? resource.id;
      at("conditions").append(item);
    }
  }
  at("record").hidden = false;
  at("refresh").hidden = !token.refresh_token;
  at("refresh").onclick = () => again(token).catch(fail);
}

async function again(token) {
  const fresh = await tokenFor({ grant_type: "refresh_token", refresh_token: token.refresh_token });
  token.access_token = fresh.access_token;
  token.refresh_token = fresh.refresh_token ?? token.refresh_token;
  const patient = await read(token, `Patient/${token.patient}`);
  show("refreshed", `Patient/${patient.id} was read with the new token.`);
}

async function begin() {
  const query = new URLSearchParams(location.search);
  if (location.origin !== new URL(home).origin) {
    location.replace(home + location.search); // the redirect URI is registered for one origin
  } else if (query.has("state")) {
    await come(query);
  } else if (query.has("launch")) {
    if (query.get("iss") !== base) throw new Error("This launch is for another server.");
    await launch(FROM_THE_RECORD, query.get("launch"));
  } else {
    show("scope", STANDALONE);
    at("start").hidden = false;
    at("launch").onclick = () => launch(STANDALONE).catch(fail);
  }
}

begin().catch(fail);
