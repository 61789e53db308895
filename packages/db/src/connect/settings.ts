/** The setting that names the database, for every role that uses it. */
import { secret } from "@celery-metrics-exporter/runtime";
import { z } from "zod";
import { databaseUrlProblem } from "./database-url.ts";

/** A database's URL, kept secret. */
export const databaseUrl = secret(
  z.string().superRefine((value, context) => {
    const message = databaseUrlProblem(value);
    if (message !== undefined) context.addIssue({ code: "custom", message });
  }),
);

export const DATABASE_URL = databaseUrl.describe(
  "PostgreSQL database for the rows, such as `postgres://user:password@host/database`, or `pglite:<folder>` for a database embedded in the process.",
);
