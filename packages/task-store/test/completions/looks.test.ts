import { afterAll, beforeAll } from "vitest";
import { describeLooks } from "./looks.ts";
import { StoreHarness } from "../store-harness.ts";

let harness: StoreHarness;
beforeAll(async () => {
  harness = await StoreHarness.start();
});
afterAll(() => harness.close());

describeLooks(async () => {
  await harness.clear();
  return harness.store;
});
