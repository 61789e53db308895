/** The last step of the build. */
import { prepareEmptyDatabase } from "./empty-database.ts";

await prepareEmptyDatabase();
