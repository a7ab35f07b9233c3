// The server as the pages know it: requests, and whose they are. Tokens live in localStorage as the API hands them out,
// go along in a header, and never stand in an address.

const KEY = "veza.session";
const BASE = "/api/v1";

/** What the server refused, with its sentence. */
export class Refusal extends Error {
  constructor(status, envelope) {
    super(envelope.error || `The server answered ${status}.`);
    this.status = status;
    this.code = envelope.code || "";
    this.details = envelope.details || {};
  }
}

/** Who is logged in: {access_token, refresh_token, user}, or null. */
export function session() {
  try {
    return JSON.parse(localStorage.getItem(KEY));
  } catch {
    return null;
  }
}

function keep(found) {
  if (found) localStorage.setItem(KEY, JSON.stringify(found));
  else localStorage.removeItem(KEY);
  changed();
}

/** One has another name now. */
export function remember(user) {
  keep({ ...session(), user });
  window.dispatchEvent(new Event("veza:named"));
}

// Pages begin anew when somebody else looks at them, not when tokens are renewed: somebody may be writing.
let last = session()?.user?.id;
function changed() {
  const user = session()?.user?.id;
  if (user === last) return;
  last = user;
  window.dispatchEvent(new Event("veza:session"));
}

// Another tab logged in or out.
window.addEventListener("storage", (event) => {
  if (event.key === KEY) changed();
});

function taken(data) {
  const { access_token, refresh_token, user } = data;
  keep({ access_token, refresh_token, user: user || session()?.user });
}

/** `code`: of the authenticator or a recovery code, where the account has a second factor. */
export async function logIn(name, password, code = "") {
  const who = name.includes("@") ? { email: name } : { username: name };
  const second = code ? { [/^\d{6}$/.test(code) ? "totp_code" : "recovery_code"]: code } : {};
  taken(await call("POST", "/auth/login", { json: { ...who, password, ...second }, auth: false }));
}

export async function register(username, email, password) {
  taken(await call("POST", "/auth/register", { json: { username, email, password }, auth: false }));
}

export async function logOut() {
  const { access_token, refresh_token } = session() || {};
  keep(null); // first: sockets that are closed for it need not come back
  try {
    await call("POST", "/auth/logout", { json: { refresh_token }, token: access_token, keepalive: true });
  } catch {
    // It ends here in any case.
  }
}

/** Tokens are good once: of all tabs and requests one renews, and the others take what it got. */
export async function renew(used) {
  const once = async () => {
    const now = session();
    if (!now || now.access_token !== used) return now;
    try {
      taken(await call("POST", "/auth/refresh", { json: { refresh_token: now.refresh_token }, auth: false }));
    } catch (error) {
      if (error instanceof Refusal && error.status === 401) keep(null);
      else throw error;
    }
    return session();
  };
  return navigator.locks ? navigator.locks.request("veza.renew", once) : once();
}

/** The `data` of an answer. Throws Refusal, and TypeError where nobody answers. */
export async function call(method, path, how = {}) {
  return (await whole(method, path, how)).data;
}

/** The whole envelope, for lists: {data, meta}. */
export async function whole(method, path, how = {}) {
  const answer = await send(method, path, how);
  if (answer.status === 204) return { data: null };
  const envelope = await answer.json().catch(() => ({}));
  if (!answer.ok || envelope.success === false) throw new Refusal(answer.status, envelope);
  return envelope;
}

/** The answer itself, for what is not JSON. */
export async function send(method, path, { json, auth = true, token, signal, keepalive } = {}) {
  const once = (bearer) =>
    fetch(path.startsWith("/api/") ? path : BASE + path, {
      method,
      signal,
      keepalive,
      headers: {
        ...(json === undefined ? {} : { "Content-Type": "application/json" }),
        ...(bearer ? { Authorization: `Bearer ${bearer}` } : {}),
      },
      body: json === undefined ? undefined : JSON.stringify(json),
    });
  const used = token ?? (auth ? session()?.access_token : null);
  const answer = await once(used);
  if (answer.status !== 401 || !used) return answer;
  const renewed = await renew(used);
  return once(renewed?.access_token);
}

/** Upload a form with a file in it; `progress` is told 0 … 1. What was made of it. */
export async function upload(path, fields, progress, signal) {
  // A file that is long on its way would find its token run out at the end; so look at it first.
  await call("GET", "/auth/me");
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", BASE + path);
    request.setRequestHeader("Authorization", `Bearer ${session()?.access_token}`);
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onload = () => {
      const envelope = request.response || {};
      if (request.status < 300 && envelope.success) resolve(envelope.data);
      else reject(new Refusal(request.status, envelope));
    };
    request.onerror = () => reject(new TypeError("The connection broke."));
    signal?.addEventListener("abort", () => request.abort());
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    request.send(fields);
  });
}

/** A WebSocket as who one is: the token goes along as a subprotocol, which no log keeps. */
export function openSocket(path) {
  const address = new URL(path, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const token = session()?.access_token;
  return token ? new WebSocket(address, ["veza.v1", token]) : new WebSocket(address);
}
