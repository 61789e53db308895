/** Where the migrations are: `drizzle/` at the root of the repository, seen from `src` as from `dist`. */
import { fileURLToPath } from "node:url";

export const MIGRATIONS_FOLDER = fileURLToPath(new URL("../../../drizzle", import.meta.url));
