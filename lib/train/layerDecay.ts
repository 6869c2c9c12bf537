/** The layer in the names of Transformer-XL's (`layers.3.`) and XLNet's (`layer.3.`) weights. */
const layerPattern = /(?:^|\.)layers?\.(\d+)\./;

/**
 * Layer-wise decay of the learning rate (Yang et al. 2019, table of fine-tuning): layer l of n learns at decay^(n - 1 - l) of the rate,
 * embeddings and heads at all of it. The original multiplies gradients instead, which Adam's normalisation undoes.
 * @param names of all weights
 * @returns the share of a weight
 */
export function layerRateShares(names: Iterable<string>, decay: number): (name: string) => number {
  const layerOf = (name: string) => layerPattern.exec(name)?.[1];
  const last = Math.max(0, ...Array.from(names, (name) => Number(layerOf(name) ?? 0)));
  return (name) => {
    const layer = layerOf(name);
    return layer === undefined ? 1 : decay ** (last - Number(layer));
  };
}
