/** What can be drawn after the rest of a page was painted. */
import { useEffect, useState } from "preact/hooks";

/** Whether the component was painted once. */
export function useIsPainted(): boolean {
  const [isPainted, setPainted] = useState(false);
  useEffect(() => {
    const frame = requestAnimationFrame(() => setTimeout(() => setPainted(true)));
    return () => cancelAnimationFrame(frame);
  }, []);
  return isPainted;
}
