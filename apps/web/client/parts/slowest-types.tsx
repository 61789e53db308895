/** The task types that run longest. */
import type { JSX } from "preact";
import { useStatistics } from "../api/statistics.ts";
import type { Statistics, Status } from "../api/types.ts";
import { href, query } from "../location.ts";
import { rangeName } from "./bar.tsx";
import { FailedShare } from "./failed-share.tsx";
import { duration, number } from "./format.ts";
import { Panel } from "./panel.tsx";
import { TaskName } from "./task.tsx";
import { Duration } from "./time.tsx";
import { Heads } from "./heads.tsx";

const MOST_TYPES = 7;
const EVERY_MS = 15_000;

function countOf(of: Statistics | undefined, name: string, status: Status): number {
  return of?.items.find((item) => item.name === name && item.status === status)?.count ?? 0;
}

/** @param standard the range of the page if its address has none. */
export function SlowestTypes({ standard }: { readonly standard: string }): JSX.Element | null {
  const asked = { range: standard, by: "name", everyMs: EVERY_MS };
  const { data } = useStatistics(asked);
  const { data: ends } = useStatistics({ ...asked, by: "name,status" });
  const rows = (data?.items ?? [])
    .flatMap((item) =>
      item.name === undefined || item.name === "" || item.runtime.p95 === null ? [] : [{ ...item, name: item.name, p95: item.runtime.p95 }],
    )
    .sort((one, other) => other.p95 - one.p95);
  const longest = rows[0]?.p95 ?? 0;
  if (rows.length === 0) return null;
  const range = query.value.has("from") ? query.value : new URLSearchParams({ range: query.value.get("range") ?? standard });
  const all = (
    <a class="link push" href={href("types", range)}>
      {rows.length > MOST_TYPES ? `All ${number(rows.length)} types` : "All types"}
    </a>
  );
  return (
    <Panel title="Slowest task types" sub={`by p95 runtime, ${rangeName(query.value, standard).toLowerCase()}`} link={all}>
      <table>
        <Heads of={["Task", ["p3", <span class="sr">p95 drawn</span>], ["n", "p50"], ["n", "p95"], ["n p3", "Runs"], ["n", "Failed"]]} />
        <tbody>
          {rows.slice(0, MOST_TYPES).map(({ name, p95, runtime }) => (
            <tr key={name}>
              <th scope="row" class="w">
                <a class="cut" href={href("tasks", new URLSearchParams([["name", name], ...range]))}>
                  <TaskName name={name} />
                </a>
              </th>
              <td class="p3">
                <svg class="meter" aria-hidden="true">
                  <rect class="base" width="100%" height="100%" rx="3" />
                  <rect class="a-run" width={`${((p95 / longest) * 100).toFixed(1)}%`} height="100%" rx="3" />
                </svg>
              </td>
              <td class="n">
                <Duration seconds={runtime.p50} />
              </td>
              <td class="n">{duration(p95)}</td>
              <td class="n p3">{number(runtime.count)}</td>
              <td class="n">
                <FailedShare failed={countOf(ends, name, "FAILURE")} succeeded={countOf(ends, name, "SUCCESS")} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </Panel>
  );
}
