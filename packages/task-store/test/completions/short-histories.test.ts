/**
 * Short histories with little sense and exact outcomes: each tells the code from small changes of it that no other test notices (docs/mutation.md).
 * What is written here is what the code does. Where a change of the rules changes a line, check that the rule wants it, and write the new one.
 */
import { describe, expect, it } from "vitest";
import { told } from "./short-histories.ts";

describe("what is to be sent after", () => {
  it.each([
    ["unk21B", "21 FAILURE ? ?  lacksStart; lacks name; marks 1"],
    ["exit0 start12", "0 FAILURE ? ?  lacksStart; lacks name; marks 1"],
    ["ok15/4 term5", "15 SUCCESS ? ? 4 lacksStart; lacks name; marks 2"],
    ["rej2 start3", "2 REJECTED ? ?  lacksFailure; lacks name; marks 1"],
    ["rej8 ok2/7", "2 SUCCESS ? ? 7 lacksStart; 8 REJECTED ? ?  lacksFailure; lacks name; marks 2"],
    ["start12 exit2", "2 FAILURE ? ?  lacksStart lacksRevocation; lacks name; marks 1"],
    ["start5 rej2", "2 REJECTED ? ?; lacks name; marks 1"],
    ["term1 term20", "20 REVOKED ? ?; lacks name; marks 2"],
    ["term5 unk15", "5 REVOKED ? ?  lacksEnd; 15 FAILURE ? ?  lacksStart; lacks name; marks 2"],
    ["=sent5mx ok6/2.5 =start2", "6 SUCCESS ? ? 2.5; lacks name; marks 1"],
    ["=term4 ok6/3 term2.25", "6 SUCCESS ? ? 3 lacksStart; lacks name; marks 3"],
    ["exit1 =exit2 recv2+1", "1 FAILURE cart ?  lacksStart; lacks start; marks 1"],
    ["exit1B ok6 sent8m", "1 FAILURE mail ?  lacksStart lacksRevocation; 6 SUCCESS mail post  lacksStart; lacks start; marks 2"],
    ["fail0 fail1 recv1m", "1 FAILURE mail ?  lacksStart; lacks start; marks 2"],
    ["ok1.5/2.5 start1 sent5x", "lacks received; marks 2"],
    ["ok1/5.5 term2 sent1m+1x", "marks 2"],
    ["ok10/10 sent2@4x recv3+1", "marks 1"],
    ["ok15/7 recv8x start3", "lacks received; marks 2"],
    ["ok2/11 recv1+1@3x recv2", "2 SUCCESS cart ? 11 lacksStart; lacks start; marks 1"],
    ["ok5 start3 =term2", "5 SUCCESS ? ? 2; lacks name; marks 2"],
    ["ok8 start2 term6", "8 SUCCESS ? ? 6; lacks name; marks 3"],
    ["recv6@1 =rej30 start0", "marks 0"],
    ["rej8 recv1+1 recv4+1x", "marks 1"],
    ["start0.5 recv4m@5 fail5", "5 FAILURE mail ?  lacksStart; lacks start; marks 2"],
    ["start0.5 start5.002 exit0.5", "0.5 FAILURE ? ? 0 lacksRevocation; lacks name; marks 2"],
    ["start2 exit5 sent1@1.5", "5 FAILURE cart shop 3 lacksRevocation; 2 waits cart shop 0.5 sent; lacks revocation; marks 2"],
    ["start6 ok30/11 term12", "12 REVOKED ? ?; 30 SUCCESS ? ? 11; lacks name; marks 3"],
    ["term10 term1 sent2x", "marks 2"],
    ["term12.5 start5 term3", "3 REVOKED ? ?; 12.5 REVOKED ? ?  lacksEnd; lacks name; marks 3"],
    ["term5 rej1 sent0m", "5 REVOKED mail post; lacks certainty; marks 2"],
    ["term5B recv2.25 recv5m+1", "5 REVOKED mail ?  lacksEnd; lacks end; marks 1"],
    ["exit1 sent12m fail0 recv1x", "0 FAILURE mail post  lacksStart; lacks start; marks 2"],
    ["recv0m+1 sent1+1x exit6 fail2", "lacks certainty; marks 2"],
    ["recv4m start0 term0 ok15", "0 REVOKED mail ?; 15 SUCCESS mail ?  lacksStart; lacks start; marks 3"],
    ["recv6m+1 start2.25 sent1+1@12 fail8", "8 FAILURE mail ?  lacksStart; 2.25 waits cart shop 0 sent skewed; lacks start; marks 2"],
    ["sent6 exit12 =exit6 term3.5", "lacks certainty; marks 3"],
    ["start0 start1 exit8 ok1.5/1", "1.5 SUCCESS ? ? 1; 8 FAILURE ? ? 7 lacksRevocation; lacks name; marks 4"],
    ["start3 ok10/4 sent3 recv0.5m", "10 SUCCESS mail ? 4; 3 waits mail ? 2.5 received; marks 2"],
    ["start3 sent2 ok2.25B sent2.25m+2", "2.25 SUCCESS mail post  lacksStart; lacks start; marks 1"],
    ["start4 ok10/2 term3 start5", "3 REVOKED ? ?; 10 SUCCESS ? ? 2; lacks name; marks 4"],
    ["term21 start0 =term6 start1.5", "21 REVOKED ? ?  lacksEnd; lacks name; marks 3"],
    ["term5.002 term30 exit20 sent3.5+1", "30 REVOKED cart shop; lacks certainty; marks 3"],
    ["ok21 recv3.5 recv15 sent4m start12.5", "21 SUCCESS cart ? 8.5; 12.5 waits cart ? 9 received; marks 2"],
    ["ok8/11 start3.5 =ok6/3 start2 =sent5@3", "8 SUCCESS cart ? 11; 3.5 waits cart shop 0 sent skewed; lacks received; marks 3"],
    ["recv0m+2x start1.5 exit1.5 sent2.25+1 term4", "4 REVOKED cart shop; marks 3"],
    ["recv5+1 exit8 start6 sent8+1 recv1B+1", "8 FAILURE cart ? 2 lacksRevocation; 6 waits cart ? 1 received; lacks revocation; marks 2"],
    ["sent15 ok5.002/1 sent1.5 unk12 recv6m", "5.001999999999953 SUCCESS cart shop 1 lacksStart; 12 FAILURE mail ?; lacks start; marks 2"],
    [
      "sent8 ok15/11 ok5B/5 start3 start6",
      "15 SUCCESS cart ? 11; 5 SUCCESS cart ? 5 lacksStart; 6 waits cart shop 0 sent skewed; lacks start; marks 4",
    ],
    ["start1 sent10 ok6B/2.5 start12 recv1B+1", "6 SUCCESS cart ? 2.5 lacksStart; lacks start; marks 2"],
    ["start3 term12 start1 ok4/2 term1", "4 SUCCESS ? ? 2; 12 REVOKED ? ?  lacksEnd; lacks name; marks 5"],
    [
      "start8 recv5+2 recv3 unk10 start5.002",
      "10 FAILURE cart ?  lacksStart; 5.001999999999953 waits cart ? 0.002 received; 8 waits cart ? 3 received; lacks start; marks 3",
    ],
    ["start8 term5 exit2 exit1 sent5+1", "5 REVOKED cart ?; marks 3"],
    [
      "exp5 start3 recv3+1@4 recv3 unk3 start5",
      "3 FAILURE cart ?; 5 REVOKED cart ?; 3 waits cart ? 0 received; 5 waits cart ? 1 received; lacks received; marks 4",
    ],
    ["ok3.5/9 recv1 sent6 sent12 start6 recv4", "3.5 SUCCESS cart shop 9 lacksStart; 6 waits cart shop 0 sent; lacks start; marks 2"],
    ["recv1.5m sent6m recv5mx sent30m recv5m ok4/6", "4 SUCCESS mail post 6 lacksStart; lacks start; marks 1"],
    ["recv4x exit10 sent2x =start5B fail2 =sent8", "marks 2"],
    [
      "start2.25 start3 recv2.25@20 recv1m+1 =recv0.5 fail5",
      "5 FAILURE mail ? 2; 2.25 waits cart ? 0 received skewed; 3 waits mail ? 2 received; marks 3",
    ],
    ["recv2B start10B fail8 =start5 =recv3.5 sent10 sent8", "8 FAILURE cart shop 3; 10 waits cart shop 2 sent; marks 2"],
    [
      "rej6 ok4 recv2+1 start0.5 start2 recv0 recv0m",
      "4 SUCCESS cart ? 2; 6 REJECTED mail ?  lacksFailure; 0.5 waits mail ? 0.5 received; 2 waits cart ? 0 received; lacks failure; marks 4",
    ],
    [
      "recv8 recv0m recv1m+2 ok20/3.5 start3 sent5+2 start2 sent4",
      "20 SUCCESS cart shop 3.5 lacksStart; 2 waits mail ? 2 received; 3 waits mail ? 2 received; lacks start; marks 3",
    ],
    ["fail1 recv5@4x recv6m+2 start0 rej0.5 start8 rej5 start6 recv3m", "1 FAILURE mail ? 1; lacks received; marks 4"],
    [
      "term2 recv5 ok12/4 start2 ok8/6 ok6/2 sent15+1 sent4m+2 start21 recv1.5@5",
      "8 SUCCESS mail post 6 lacksStart; 6 SUCCESS cart ? 2; 12 SUCCESS cart ? 4 lacksStart; 2 waits cart ? 0 received skewed; 21 waits cart shop 6 sent; lacks start; marks 6",
    ],
  ])("%s: %s", (history, outcome) => {
    expect(told(history)).toBe(outcome);
  });
});
