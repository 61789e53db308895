/** How packets leave the process. */

/** One connected datagram socket, opened at the first packet and again after `close`. For one caller at a time. */
export interface DatagramTransport {
  /** What fits a packet, unless the settings say otherwise. */
  readonly maxPacketBytes: number;
  /** Whether a packet that `send` handed over may still be refused: until `confirm` resolves, nobody knows which were taken. */
  readonly refusesLate: boolean;

  /**
   * Hands a packet to the kernel.
   *
   * @throws {Error} when the kernel does not take it, or has reported that an earlier packet was refused.
   */
  send(packet: Buffer): Promise<void>;

  /**
   * Resolves when a refusal of what was sent would have arrived. One that arrives even later fails the next packet.
   *
   * @throws {Error} when any of it was refused.
   */
  confirm(): Promise<void>;

  /** Closes the socket. Safe when it is not open. */
  close(): void;
}
