/** How packets leave the process. */

/** One connected datagram socket, opened at the first packet and again after `close`. For one caller at a time. */
export interface DatagramTransport {
  /** What fits a packet, unless the settings say otherwise. */
  readonly maxPacketBytes: number;

  /**
   * Hands a packet to the kernel.
   *
   * @throws {Error} when it does not take it, or has learned that an earlier one was refused.
   */
  send(packet: Buffer): Promise<void>;

  /**
   * Resolves when a refusal of what was sent would have been heard.
   *
   * @throws {Error} when it was refused.
   */
  confirm(): Promise<void>;

  /** Closes the socket. Safe when it is not open. */
  close(): void;
}
