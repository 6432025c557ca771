// What a URL of a coordinator says.

const PORTS: { [scheme: string]: string } = { "http:": "9652", "https:": "9652", "ws:": "9653", "wss:": "9653" };
const WEBSOCKET: { [scheme: string]: string } = { "http:": "ws:", "https:": "wss:" };
const PATH = "/ws"; // where the HTTP port serves WebSockets, beneath the path of the API itself

/**
 * Where a coordinator is. A URL without a port means the coordinator's own: 9652 of http and https, 9653 of ws and wss.
 */
export function parseAddress(text: string): URL {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new TypeError(`${JSON.stringify(text)} is no URL; a coordinator's is like ws://HOST:9653`);
  }
  if (!(url.protocol in PORTS)) {
    throw new TypeError(`a coordinator's URL begins with http://, https://, ws:// or wss://, not ${url.protocol}//`);
  }
  if (url.username || url.password) {
    throw new TypeError("there are credentials in the coordinator's URL; give them as `credentials` instead");
  }
  // A standard port that is written out looks like none once it is parsed.
  const authority =
    text
      .trim()
      .replace(/^[a-z]+:\/\//i, "")
      .split(/[/?#]/)[0] ?? "";
  if (!/:\d+$/.test(authority)) url.port = PORTS[url.protocol] ?? "";
  url.hash = "";
  return url;
}

/** The WebSocket of the same coordinator: http://HOST:9652 becomes ws://HOST:9652/ws. */
export function forWebSocket(url: URL): URL {
  const scheme = WEBSOCKET[url.protocol];
  if (scheme === undefined) return url;
  const path = url.pathname.replace(/\/+$/, "");
  return new URL(`${scheme}//${url.host}${path.endsWith(PATH) ? path : path + PATH}${url.search}`);
}

/** The HTTP API at this URL. Raises TypeError for that of a WebSocket, which may be on another port. */
export function forHttp(url: URL): URL {
  if (url.protocol in WEBSOCKET) return url;
  throw new TypeError(`${url.protocol}// is a WebSocket's; give the URL of the HTTP API, or use connect()`);
}

/** As it is shown: without a query, in which there may be a secret. */
export function shown(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname.replace(/\/+$/, "")}`;
}
