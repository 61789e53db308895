import { describe, expect, it } from "vitest";
import { realException } from "../../src/python/exception.ts";
import { Reject, normalise } from "../../src/model/normalise.ts";
import { MAX_TEXT_LENGTH } from "../../src/python/text.ts";

const WRAPPER = "ExceptionWithTraceback()";
const FRAMES = `Traceback (most recent call last):
  File "/usr/lib/python3/dist-packages/celery/app/trace.py", line 451, in trace_task
    R = retval = fun(*args, **kwargs)
                 ^^^^^^^^^^^^^^^^^^^^
  File "/srv/shop.py", line 12, in pay
    raise ValueError("Traceback (most recent call last):")
  [Previous line repeated 3 more times]
`;
const CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n";
const CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n";

function quoted(traceback: string): string {
  return `${FRAMES}billiard.einfo.ExceptionWithTraceback: \n"""\n${traceback}"""\n`;
}

/** The repr of a text with both line breaks and `"`. */
function repr(text: string): string {
  return `'${text.replaceAll("\n", "\\n").replaceAll("'", "\\'")}'`;
}

const GROUP = `  + Exception Group Traceback (most recent call last):
  |   File "/srv/shop.py", line 26, in pay
  |     raise ExceptionGroup("several", [ValueError("a"), TypeError("b")])
  | ExceptionGroup: several (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: a
    +---------------- 2 ----------------
    | TypeError: b
    +------------------------------------
`;

describe("the real exception", () => {
  it.each<readonly [string, string, string]>([
    [
      "of a pool process that was killed",
      `${FRAMES}billiard.exceptions.WorkerLostError: Worker exited prematurely: signal 9 (SIGKILL) Job: 29.\n`,
      "WorkerLostError('Worker exited prematurely: signal 9 (SIGKILL) Job: 29.')",
    ],
    ["of a hard time limit", `${FRAMES}billiard.exceptions.TimeLimitExceeded: TimeLimitExceeded(2,)\n`, "TimeLimitExceeded(2,)"],
    ["without a module", `${FRAMES}ValueError: no: colon\n`, "ValueError('no: colon')"],
    ["without a line break at the end", `${FRAMES}ValueError: x`, "ValueError('x')"],
    ["without a message", `${FRAMES}ValueError\n`, "ValueError()"],
    ["with an empty message after its colon", `${FRAMES}ValueError: \n`, "ValueError()"],
    ["with several lines", `${FRAMES}ValueError: one\n  two: 2\n\nthree\n`, "ValueError('one\\n  two: 2\\n\\nthree')"],
    ["with a first line that is empty", `${FRAMES}ValueError: \n two\n`, "ValueError('\\n two')"],
    ["with notes", `${FRAMES}ValueError: noted\na note\n`, "ValueError('noted\\na note')"],
    ["with quotes", `${FRAMES}RuntimeError: it's "x" \\ y\n`, `RuntimeError('it\\'s "x" \\\\ y')`],
    ["with single quotes", `${FRAMES}RuntimeError: outer: 'x'\n`, `RuntimeError("outer: 'x'")`],
    ["of a key", `${FRAMES}KeyError: 'k'\n`, "KeyError('k')"],
    ["of a class within a function", `${FRAMES}shop.pay.<locals>.Declined: no\n`, "Declined('no')"],
    ["of a class that is not ASCII", `${FRAMES}shop.Ошибка: нет ✓\n`, "Ошибка('нет ✓')"],
    ["with a cause", `${FRAMES}KeyError: 'k'\n${CAUSE}${FRAMES}RuntimeError: outer\n`, "RuntimeError('outer')"],
    ["with a context", `${FRAMES}KeyError: 'k'\n${CONTEXT}${FRAMES}RuntimeError: outer\n`, "RuntimeError('outer')"],
    ["with a cause and a context", `${FRAMES}A: a\n${CONTEXT}${FRAMES}B: b\n${CAUSE}${FRAMES}C: c\n`, "C('c')"],
    [
      "whose message contains a traceback",
      `${FRAMES}RuntimeError: child:\nTraceback (most recent call last):\n  File "x"\nKeyError: 1\n`,
      `RuntimeError('child:\\nTraceback (most recent call last):\\n  File "x"\\nKeyError: 1')`,
    ],
    [
      "whose message contains a chained traceback",
      `${FRAMES}shop.RemoteError: worker said: Traceback (most recent call last):\n  File "x"\nA: a\n${CONTEXT}${FRAMES}B: b\n`,
      `RemoteError(${repr(`worker said: Traceback (most recent call last):\n  File "x"\nA: a\n${CONTEXT}${FRAMES}B: b`)})`,
    ],
    [
      "whose message contains an indented traceback, and which caused another",
      `${FRAMES}A: said:\n  Traceback (most recent call last):\n    File "x"\n  B: b\n${CAUSE}${FRAMES}C: c\n`,
      "C('c')",
    ],
    [
      "whose message mentions a context",
      `${FRAMES}A: a\n${CONTEXT}Traceback (most recent call last):\nnone\n`,
      "A('a\\n\\nDuring handling of the above exception, another exception occurred:\\n\\nTraceback (most recent call last):\\nnone')",
    ],
    [
      "after remote tracebacks within each other",
      `R: \n"""\n${FRAMES}R: \n"""\n${FRAMES}A: a\n"""\n${CAUSE}${FRAMES}A: a\n"""\n${CAUSE}${FRAMES}B: b\n`,
      "B('b')",
    ],
    [
      "whose message contains a chained traceback within quotes",
      `${FRAMES}A: \n"""\n${FRAMES}B: b\n${CAUSE}${FRAMES}C: c\n"""\n`,
      `A(${repr(`\n"""\n${FRAMES}B: b\n${CAUSE}${FRAMES}C: c\n"""`)})`,
    ],
    [
      "whose message contains a traceback on lines of its own, and which caused another",
      `${FRAMES}A: said:\nTraceback (most recent call last):\n  File "x"\nB: b\n${CAUSE}${FRAMES}C: c\n`,
      `A(${repr(`said:\nTraceback (most recent call last):\n  File "x"\nB: b\n${CAUSE}${FRAMES}C: c`)})`,
    ],
    [
      "whose message contains a traceback with an indented header, and which caused another",
      `${FRAMES}A: said:\n  Traceback (most recent call last):\n  File "x"\n  B: b\n${CAUSE}${FRAMES}C: c\n`,
      "C('c')",
    ],
    ["after a blank line and a cause", `\n${FRAMES}A: a\n${CAUSE}${FRAMES}B: b\n`, "B('b')"],
    ["after other text", `[pool]\n${FRAMES}A: a\n`, "A('a')"],
    ["after a blank line below the frames", `${FRAMES}\nA: a\n`, "A('a')"],
    ["after a header without frames", "Traceback (most recent call last):\nA: a\n", "A('a')"],
    ["after quotes whose line above lost its last space", `R:\n"""\n${FRAMES}A: a\n"""\n${CAUSE}${FRAMES}B: b\n`, "B('b')"],
    ["after a message with quotes on a line of their own", `${FRAMES}A: a\n"""\n${CAUSE}${FRAMES}B: b\n`, "B('b')"],
    ["whose message begins like its class's repr", `${FRAMES}A: A(1) and more\n`, "A('A(1) and more')"],
    ["with unassigned characters", `${FRAMES}A: \u061c\uffff\n`, "A('\\u061c\\uffff')"],
    ["without a header, whose message contains a frame", `  File "x"\n    y\nA: a:\n  File "z"\nb\n`, `A('a:\\n  File "z"\\nb')`],
    [
      "of a group whose message contains a traceback",
      `  + Exception Group Traceback (most recent call last):\n  |   File "x"\n  | G: a:\n  | Traceback (most recent call last):\n  | B: b\n`,
      "G('a:\\nTraceback (most recent call last):\\nB: b')",
    ],
    ["within seven wrappers", Array.from({ length: 7 }).reduce<string>(quoted, `${FRAMES}A: a\n`), "A('a')"],
    ["of a module whose name has a hyphen", `${FRAMES}my-app.sub-module.MyError: no\n`, "MyError('no')"],
    ["of a class with combining marks", `${FRAMES}shop.\u0928\u093f\u092f\u092e: no\n`, "\u0928\u093f\u092f\u092e('no')"],
    [
      "with control characters",
      `${FRAMES}E: a\x07\x1b[31m\x7f\x85\u00a0\u2028\ufeff\u{e0001} é 🎉\n`,
      "E('a\\x07\\x1b[31m\\x7f\\x85\\xa0\\u2028\\ufeff\\U000e0001 é 🎉')",
    ],
    ["within the wrapper's quotes", quoted(`${FRAMES}shop.Declined: no\n`), "Declined('no')"],
    ["chained, within the wrapper's quotes", quoted(`${FRAMES}A: a\n${CAUSE}${FRAMES}B: b\n`), "B('b')"],
    ["within two wrappers", quoted(quoted(`${FRAMES}shop.Declined: no\n`)), "Declined('no')"],
    ["after a cause within quotes", `${quoted(`${FRAMES}A: a\n`)}${CAUSE}${FRAMES}B: b\n`, "B('b')"],
    ["after a remote traceback", `billiard.einfo.RemoteTraceback: \n"""\n${FRAMES}A: a\n"""\n${CAUSE}${FRAMES}B: b """\n`, `B('b """')`],
    ["of a group", GROUP, "ExceptionGroup('several (2 sub-exceptions)')"],
    ["of a group with a cause", `${FRAMES}A: a\n${CAUSE}${GROUP}`, "ExceptionGroup('several (2 sub-exceptions)')"],
    ["caused by a group", `${GROUP}${CAUSE}${FRAMES}B: b\n`, "B('b')"],
    ["of a traceback without a header", `  File "/srv/shop.py", line 1, in pay\n    pay()\nValueError: x\n`, "ValueError('x')"],
    [
      "of a traceback whose beginning was cut",
      `op.py", line 2, in x\n    y\n  File "/srv/shop.py", line 1, in pay\n    pay()\nValueError: x\n`,
      "ValueError('x')",
    ],
    ["of a traceback without frames", "shop.Declined: no\n  more\n", "Declined('no\\n  more')"],
  ])("%s", (_what, traceback, expected) => {
    expect(realException(WRAPPER, traceback)).toBe(expected);
  });

  it.each([
    ["is empty", ""],
    ["ends within the frames", FRAMES],
    ["ends within the wrapper's quotes", `${FRAMES}billiard.einfo.ExceptionWithTraceback: \n"""\n${FRAMES}`],
    ["does not end in a class", `${FRAMES}!! what: x\n`],
    ["ends in a sentence", `${FRAMES}Something went wrong\n`],
    ["begins with a number", "1: x"],
    ["is within more wrappers than Celery nests", Array.from({ length: 8 }).reduce<string>(quoted, `${FRAMES}A: a\n`)],
  ])("is unknown if the traceback %s", (_what, traceback) => {
    expect(realException(WRAPPER, traceback)).toBe(WRAPPER);
  });

  it("is the one that Celery sent, unless that is the wrapper", () => {
    const traceback = `${FRAMES}RuntimeError: x\n`;
    for (const exception of ["ValueError('ExceptionWithTraceback()')", "<Odd object at 0x1>", "", "ExceptionWithTracebackOfOurs()"]) {
      expect(realException(exception, traceback)).toBe(exception);
    }
  });

  it.each([
    ["Retry(Retry(...), ValueError('again'), 0.2)", "ValueError('again')"],
    ["Retry(Retry(...), ValueError('a, b'), 180)", "ValueError('a, b')"],
    ["Retry(Retry(...), ValueError(', 3)'), None)", "ValueError(', 3)')"],
    ["Retry(Retry(...), None, 1e-05)", "None"],
    ["Retry(Retry(...), E(1, 2), datetime.datetime(2026, 11, 29, 3, 0, tzinfo=datetime.timezone.utc))", "E(1, 2)"],
    ["Retry(Retry(...), cut off", "Retry(Retry(...), cut off"],
    ["Retry(Retry(...), ", "Retry(Retry(...), "],
    ["Retry(Retry(...), , 3)", "Retry(Retry(...), , 3)"],
    ["RetryTaskError('x')", "RetryTaskError('x')"],
  ])("of a retry is the exception that caused it: %s", (sent, expected) => {
    expect(realException(sent, `${FRAMES}celery.exceptions.Retry: Retry in 0.2s\n`)).toBe(expected);
  });

  it("is read for an exception that could not be pickled", () => {
    const sent = "<MaybeEncodingError: Error sending result: ''(1, <ExceptionInfo: ExceptionWithTraceback()>, None)''. Reason: ''x''.>";
    const traceback = `${FRAMES}billiard.pool.MaybeEncodingError: Error sending result: x\n`;
    expect(realException(sent, traceback)).toBe("MaybeEncodingError('Error sending result: x')");
  });

  it.each([
    ["chains", CAUSE],
    ["chains with headers", `${CAUSE}Traceback (most recent call last):\n`],
    ["quotes", 'ExceptionWithTraceback: \n"""\n'],
    ["closing quotes", `ExceptionWithTraceback: \n"""\n"""\n`],
    ["headers", "Traceback (most recent call last):\n"],
    ["frames", "  x\n"],
    ["group lines", "  | x\n"],
    ["names", "a.<locals>."],
    ["blanks", "\n"],
  ])("takes linear time for a million characters of %s", (_what, part) => {
    for (const traceback of [part.repeat(1e6 / part.length), GROUP.slice(0, 60) + part.repeat(1e6 / part.length)]) {
      expect(realException(WRAPPER, traceback).length).toBeLessThan(3 * MAX_TEXT_LENGTH);
    }
  });
});

describe("a decoded event", () => {
  const event = { hostname: "w1@host-a", timestamp: 1_795_328_900.25, uuid: "task-1", exception: WRAPPER };

  it.each(["task-failed", "task-retried"])("%s contains the real exception, and the traceback as it was sent", (type) => {
    const traceback = `${FRAMES}billiard.exceptions.TimeLimitExceeded: TimeLimitExceeded(1,)\n`;
    expect(normalise({ ...event, type, traceback })).toMatchObject({ exception: "TimeLimitExceeded(1,)", traceback });
  });

  it("contains the real exception of a traceback whose end is cut off, itself cut and cleaned", () => {
    const traceback = `${FRAMES}${'  File "x"\n'.repeat(MAX_TEXT_LENGTH / 10)}ValueError: \0${"x".repeat(2 * MAX_TEXT_LENGTH)}\n`;
    const failed = normalise({ ...event, type: "task-failed", traceback });
    if (failed instanceof Reject || !("exception" in failed)) throw new Error("no event");
    expect(failed.exception).toHaveLength(MAX_TEXT_LENGTH);
    expect(failed.exception?.startsWith("ValueError('\\x00xxx")).toBe(true);
  });
});
