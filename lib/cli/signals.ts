/** The first SIGINT or SIGTERM asks the run to save and stop; the second ends the process at once. @returns undoes it */
export function abortOnSignals(controller: AbortController): () => void {
  const handle = (signal: NodeJS.Signals) => {
    if (controller.signal.aborted) process.exit(signal === 'SIGINT' ? 130 : 143);
    process.stderr.write(`\n${signal}: saving after this step; once more to stop at once\n`);
    controller.abort(new Error(signal));
  };
  const signals = ['SIGINT', 'SIGTERM'] as const;
  for (const signal of signals) process.on(signal, handle);
  return () => {
    for (const signal of signals) process.off(signal, handle);
  };
}
