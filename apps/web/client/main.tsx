import { render } from "preact";
import { awaitEarly } from "./api/query.ts";
import { App, loadPage } from "./app.tsx";
import { followLinks, page } from "./location.ts";

/** People see the frame of the HTML until then. */
const PATIENCE_MS = 200;
/** The same for the code of a page that is not there at once. */
const CODE_PATIENCE_MS = 1_000;

/** The frame of the HTML is painted before anything else is done. A hidden tab paints nothing. */
function painted(): Promise<void> {
  return new Promise((resolve) => {
    if (document.hidden) resolve();
    else requestAnimationFrame(() => setTimeout(resolve));
  });
}

/** Waits no longer. What comes later is drawn then. */
function within(work: Promise<void>, patienceMs: number): Promise<void> {
  return Promise.race([work, new Promise<void>((resolve) => setTimeout(resolve, patienceMs))]);
}

followLinks();
// Nothing is awaited here: the pages import from this file's chunk, and would wait for its end.
void Promise.all([painted(), within(awaitEarly(), PATIENCE_MS), within(loadPage(page.value), CODE_PATIENCE_MS)]).then(() =>
  render(<App />, document.body),
);
