import { expect, it } from "vitest";
import { isNamedBy, keyOf, markOf } from "../client/parts/failure-group.ts";

const charge = { name: "shop.charge", status: "FAILURE", exception: "ValueError", message: "negative amount -#" } as const;
const other = { ...charge, message: "no amount" };
const forViewer = { ...charge, message: null };

it("a group of failures is named by a mark that no other has", () => {
  const groups = [
    charge,
    other,
    { ...charge, message: "" },
    { ...charge, exception: "KeyError" },
    { ...charge, status: "RETRY" as const },
    { ...charge, name: null },
  ];
  for (const group of groups) expect(groups.filter((each) => isNamedBy(markOf(group), each))).toEqual([group]);
});

it("the mark of a group opens it for a viewer too, who gets no message, and a viewer's opens it for others", () => {
  expect(isNamedBy(markOf(charge), forViewer)).toBe(true);
  expect([charge, other].map((group) => isNamedBy(markOf(forViewer), group))).toEqual([true, true]);
  expect(isNamedBy(markOf(charge), { ...forViewer, exception: "KeyError" })).toBe(false);
});

it("a group without a message has another key than one with an empty message", () => {
  expect(keyOf({ ...charge, message: "" })).not.toBe(keyOf(forViewer));
});
