import { expect, test } from "vitest";
import { launchChromium } from "../src/index.ts";

test("the system's browser opens a page", async () => {
  const browser = await launchChromium();
  const page = await browser.newPage();
  await page.goto("data:text/html,<title>shop</title>");
  expect(await page.title()).toBe("shop");
  await browser.close();
});
