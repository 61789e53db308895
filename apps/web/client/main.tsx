import { render } from "preact";
import { awaitEarly } from "./api/query.ts";
import { App, loadPage } from "./app.tsx";
import { followLinks, page } from "./location.ts";

/** People see the frame of the HTML until then. */
const PATIENCE_MS = 200;

/** The frame of the HTML is painted before anything else is done. A hidden tab paints nothing. */
function painted(): Promise<void> {
  return new Promise((resolve) => {
    if (document.hidden) resolve();
    else requestAnimationFrame(() => setTimeout(resolve));
  });
}

followLinks();
// Nothing is awaited here: the pages import from this file's chunk, and would wait for its end.
void Promise.all([painted(), awaitEarly(PATIENCE_MS), loadPage(page.value)]).then(() => render(<App />, document.body));
