/** Our advisory locks in the user's database: any numbers, as long as nobody else there takes them. */

/** ASCII "cme" and a counter. */
export const ADVISORY_LOCKS = { migrate: 0x636d6501, retention: 0x636d6502 } as const;
