import { LossScaler, type LossScalingConfig } from '../../lib/train/lossScaler';
import { resolveTrainConfig } from '../../lib/train/trainConfig';
import { codeOf } from '../support/errors';

const defaults = resolveTrainConfig({}).lossScaling;

function scaler(changes: Partial<LossScalingConfig> = {}): LossScaler {
  return new LossScaler({ ...defaults, ...changes });
}

/** Scales of the steps after each outcome. */
function scales(each: LossScaler, outcomes: readonly boolean[]): number[] {
  return outcomes.map((finite) => {
    each.update(finite);
    return each.scale;
  });
}

test("defaults are those of torch's GradScaler", () => {
  expect(defaults).toEqual({ initialScale: 65_536, growthFactor: 2, backoffFactor: 0.5, growthInterval: 2000 });
});

test('grows after the interval, falls at once, and counts anew', () => {
  const each = scaler({ initialScale: 8, growthInterval: 3 });
  expect(scales(each, [true, true, true, true, true, true])).toEqual([8, 8, 16, 16, 16, 32]);
  expect(scales(each, [true, true, false, true, true, true])).toEqual([32, 32, 16, 16, 16, 32]);
  expect(each.state).toEqual({ scale: 32, goodSteps: 0, skipped: 1, hopeless: 0 });
});

test('other factors', () => {
  const each = scaler({ initialScale: 100, growthFactor: 1.5, backoffFactor: 0.1, growthInterval: 1 });
  expect(scales(each, [true, false, true])).toEqual([150, 15, 22.5]);
  expect(scales(scaler({ growthFactor: 1, growthInterval: 1 }), [true, true])).toEqual([65_536, 65_536]);
});

test('never grows beyond float32', () => {
  const each = scaler({ initialScale: 2 ** 120, growthFactor: 2 ** 7, growthInterval: 1 });
  expect(scales(each, [true, true])).toEqual([2 ** 127, 2 ** 127]);
});

test('gives up after four skipped steps in a row at scales below 1, and no sooner', () => {
  const each = scaler({ initialScale: 2 });
  // 2, 1: still ordinary.
  expect(scales(each, [false, false, false, false, false])).toEqual([1, 0.5, 0.25, 0.125, 0.0625]);
  expect(each.exhausted).toBe(false);
  each.update(true);
  for (let count = 0; count < 3; count += 1) each.update(false);
  expect(each.exhausted).toBe(false);
  each.update(false);
  expect(each.exhausted).toBe(true);
});

test('every sequence without finite gradients ends', () => {
  for (const config of [defaults, { ...defaults, initialScale: 2 ** 120, backoffFactor: 0.999 }]) {
    const each = scaler(config);
    let steps = 0;
    for (; !each.exhausted; steps += 1) each.update(false);
    expect(steps).toBe(Math.ceil(Math.log(config.initialScale) / -Math.log(config.backoffFactor) + 1e-9) + 4);
  }
});

test('goes on from a state as if nothing had been', () => {
  const outcomes = [true, true, false, true, true, true, false, false, true, true, true, true];
  const whole = scaler({ growthInterval: 3 });
  const expected = scales(whole, outcomes);
  for (let cut = 0; cut <= outcomes.length; cut += 1) {
    const first = scaler({ growthInterval: 3 });
    const before = scales(first, outcomes.slice(0, cut));
    const second = scaler({ growthInterval: 3 });
    second.restore(JSON.parse(JSON.stringify(first.state)) as typeof first.state);
    expect([...before, ...scales(second, outcomes.slice(cut))]).toEqual(expected);
    expect(second.state).toEqual(whole.state);
  }
});

test('refuses what is no scaling', async () => {
  for (const lossScaling of [
    ...[
      { initialScale: 0 },
      { initialScale: -1 },
      { initialScale: Infinity },
      { initialScale: NaN },
      { initialScale: '1' },
    ],
    ...[
      { growthFactor: 0.5 },
      { backoffFactor: 1 },
      { backoffFactor: 0 },
      { growthInterval: 0 },
      { growthInterval: 1.5 },
    ],
    ...[{ scale: 5 }, 5],
  ]) {
    expect([lossScaling, await codeOf(() => resolveTrainConfig({ lossScaling: lossScaling as never }))]).toEqual([
      lossScaling,
      'ERR_CONFIG',
    ]);
  }
  for (const precision of ['bf16', 'half', 'float64', '', 5]) {
    expect(await codeOf(() => resolveTrainConfig({ precision: precision as never }))).toBe('ERR_CONFIG');
  }
});
