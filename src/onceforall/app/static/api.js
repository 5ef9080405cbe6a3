// Requests, and errors as text in the page.
import { at } from "./format.js";

export function tell(text) {
  at("error").hidden = !text;
  at("error").firstElementChild.textContent = text;
}

async function answer(promise) {
  let response;
  try {
    response = await promise;
  } catch {
    throw new Error("the explorer does not answer: it has ended or the connection is down");
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Error(body?.error ?? `the explorer answered ${response.status}`);
  return body;
}

export const get = (path) => answer(fetch(path));

export const post = (path, body = {}) =>
  answer(fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }));

// Runs an action of the user and shows its error, if any.
export async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    tell(error.message);
    return undefined;
  }
}
