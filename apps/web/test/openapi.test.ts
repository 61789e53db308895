/** The description of the API. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { openApiDocument } from "../src/openapi-document.ts";
import { useApi } from "./harness.ts";

const api = useApi();

interface OpenApi {
  readonly openapi: string;
  readonly paths: Readonly<
    Record<
      string,
      {
        readonly get: {
          readonly parameters?: readonly { readonly name: string; readonly in: string; readonly description?: string }[];
          readonly summary?: string;
        };
      }
    >
  >;
  readonly components: { readonly schemas: Readonly<Record<string, unknown>> };
}

it("is docs/openapi.json (pnpm docs:configuration writes it)", async () => {
  expect(JSON.parse(readFileSync(new URL("../../../docs/openapi.json", import.meta.url), "utf8"))).toEqual(
    JSON.parse(await openApiDocument()),
  );
});

it("is what the server answers", async () => {
  expect(await (await fetch(`${api.url}/openapi.json`)).json()).toEqual(JSON.parse(await openApiDocument()));
});

it("is OpenAPI 3.1 with every parameter of lists, and each schema once", async () => {
  const { openapi, paths, components } = JSON.parse(await openApiDocument()) as OpenApi;
  expect(openapi).toBe("3.1.0");
  const names = paths["/api/v1/tasks"]?.get.parameters?.map(({ name, in: place }) => `${place} ${name}`);
  expect(names).toEqual(
    expect.arrayContaining(["query status", "query name", "query range", "query cursor", "query limit", "query count"]),
  );
  expect(Object.values(paths).every(({ get }) => get.summary !== undefined)).toBe(true);
  expect(Object.keys(components.schemas)).toEqual(expect.arrayContaining(["TaskItem", "Task", "Tree", "Problem"]));
  expect(JSON.stringify(paths["/api/v1/tasks"])).toContain("#/components/schemas/TaskPage");
});
