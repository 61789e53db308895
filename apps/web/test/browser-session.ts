/** A browser as far as logins go: it follows redirects and keeps cookies. */
export class BrowserSession {
  /** By name. */
  readonly cookies = new Map<string, string>();
  /** The `set-cookie` headers that came. */
  readonly set: string[] = [];

  /** Asks for one address, as a person who opens it. */
  async open(address: string, headers: Readonly<Record<string, string>> = {}): Promise<Response> {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const answer = await fetch(address, {
      redirect: "manual",
      headers: { accept: "text/html", ...(cookie !== "" && { cookie }), ...headers },
    });
    for (const line of answer.headers.getSetCookie()) {
      this.set.push(line);
      const [, name = "", value = ""] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
      if (/Max-Age=0|Expires=Thu, 01 Jan 1970/i.test(line)) this.cookies.delete(name);
      else this.cookies.set(name, value);
    }
    return answer;
  }

  /** Follows redirects up to an answer without one, or up to the address that `until` matches. */
  async follow(address: string, until?: RegExp): Promise<{ readonly answer: Response; readonly address: string }> {
    let next = address;
    for (let count = 0; count < 10; count++) {
      const answer = await this.open(next);
      const location = answer.headers.get("location");
      if (location === null) return { answer, address: next };
      next = new URL(location, next).href;
      if (until?.test(next) === true) return { answer, address: next };
    }
    throw new Error("too many redirects");
  }

  /** Asks the API, as a script of the page does. */
  async api(address: string, init: RequestInit = {}): Promise<Response> {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    return fetch(address, {
      ...init,
      headers: { "sec-fetch-mode": "cors", "sec-fetch-site": "same-origin", ...(cookie !== "" && { cookie }), ...(init.headers as object) },
    });
  }
}
