import { render } from "preact";
import { App } from "./app.tsx";
import { followLinks } from "./location.ts";
import { restoreTheme } from "./theme.ts";

restoreTheme();
followLinks();
addEventListener("DOMContentLoaded", () => render(<App />, document.body));
