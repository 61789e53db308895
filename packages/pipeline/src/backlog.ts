/** How many events a queue holds, estimated without reading them. */

/**
 * Redis tells how many jobs a queue holds, not how many events are in them. The estimate keeps the mean batch size of what the queue holds:
 * jobs that this process adds change the mean by their true size, jobs that leave or that other receivers add are taken to be of the mean.
 * A single receiver is so exact as long as batches leave evenly; several receivers of one broker make batches alike.
 */
export class Backlog {
  #jobs = 0;
  #events = 0;
  /** The mean of an empty queue is that of what it last held. */
  #mean: number;

  /** @param meanBatch events per job of what the queue holds already. */
  constructor(meanBatch = 1) {
    this.#mean = meanBatch;
  }

  get events(): number {
    return this.#events;
  }

  /** So many events of ours went in, in so many jobs. */
  added(events: number, jobs = 1): void {
    // Without a job there is nothing in it to change the mean.
    if (jobs === 0) return;
    this.#jobs += jobs;
    this.#events += events;
    this.#mean = this.#events / this.#jobs;
  }

  /** Redis was asked: so many jobs wait, are delayed or active. */
  counted(jobs: number): void {
    this.#jobs = jobs;
    this.#events = jobs * this.#mean;
  }
}
