/** The description of the API in OpenAPI 3.1, made from the schemas of the routes. */
import type { FastifyDynamicSwaggerOptions } from "@fastify/swagger";
import { createJsonSchemaTransform, createJsonSchemaTransformObject } from "fastify-type-provider-zod";
import type { z } from "zod";

type Override = NonNullable<NonNullable<Parameters<typeof z.toJSONSchema>[1]>["override"]>;

/** Leaves out what zod adds for JavaScript: the range of its integers, and an expression of a kilobyte for each time. */
const override: Override = ({ jsonSchema }) => {
  if (jsonSchema.format === "date-time") delete jsonSchema.pattern;
  if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
  if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
};

const options = { zodToJsonConfig: { override } };
const toComponents = createJsonSchemaTransformObject(options);

export const DESCRIPTION: FastifyDynamicSwaggerOptions = {
  openapi: {
    openapi: "3.1.0",
    info: {
      title: "celery-metrics-exporter",
      version: "1",
      description:
        "Ask anything of the tasks that Celery ran. Times are ISO 8601 in UTC, durations are seconds. Failed requests get a problem document.",
    },
    components: { securitySchemes: { password: { type: "http", scheme: "basic" }, token: { type: "http", scheme: "bearer" } } },
    security: [{ password: [] }, { token: [] }, {}],
  },
  transform: createJsonSchemaTransform(options),
  transformObject: (document) => withoutInputs(toComponents(document)),
};

type Document = ReturnType<NonNullable<FastifyDynamicSwaggerOptions["transformObject"]>> & {
  readonly components?: { readonly schemas?: Readonly<Record<string, unknown>> };
};

/** Each schema would be listed a second time, as that of a request. All of them are only in answers. */
function withoutInputs(document: Document): Document {
  const schemas = Object.entries(document.components?.schemas ?? {}).filter(([name]) => !name.endsWith("Input"));
  return { ...document, components: { ...document.components, schemas: Object.fromEntries(schemas) } } as Document;
}
