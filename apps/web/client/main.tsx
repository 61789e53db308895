import { render } from "preact";
import { App } from "./app.tsx";
import { followLinks } from "./location.ts";

followLinks();
// Modules run when the document is complete.
render(<App />, document.body);
