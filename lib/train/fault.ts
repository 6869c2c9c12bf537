import { faultPoint } from '../env';

/**
 * For the crash tests: a hook that kills the process, as a power cut would, when saving reaches the point that XLFORMERS_FAULT names
 * (`point` or `point:n` for its n-th time).
 */
export function plantedFault(): ((point: string) => void) | undefined {
  const wanted = faultPoint();
  if (wanted === null) return undefined;
  return (point) => {
    if (point !== wanted.point) return;
    wanted.remaining -= 1;
    if (wanted.remaining <= 0) process.kill(process.pid, 'SIGKILL');
  };
}
