/** config.json: what Hugging Face's configurations read, what they write, and keys that are none of theirs. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { AutoModel, TransformerXLLMHeadModel, XLNetLMHeadModel } from '../../lib';
import { transformerXLConfigFromFile } from '../../lib/models/transformerXLConfig';
import { xlnetConfigFromFile } from '../../lib/models/xlnetConfig';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-config-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

type Json = Record<string, unknown>;

/** The keys of `to_dict()` of both configurations in transformers 4.57.6, with their defaults. */
const general: Json = {
  ...{ _name_or_path: '', add_cross_attention: false, architectures: null, bad_words_ids: null, bos_token_id: null },
  ...{ begin_suppress_tokens: null, chunk_size_feed_forward: 0, cross_attention_hidden_size: null, dtype: null },
  ...{ decoder_start_token_id: null, diversity_penalty: 0, do_sample: false, early_stopping: false, eos_token_id: 0 },
  ...{ encoder_no_repeat_ngram_size: 0, exponential_decay_length_penalty: null, finetuning_task: null },
  ...{ forced_bos_token_id: null, forced_eos_token_id: null, id2label: { 0: 'LABEL_0', 1: 'LABEL_1' } },
  ...{ is_decoder: false, is_encoder_decoder: false, label2id: { LABEL_0: 0, LABEL_1: 1 }, length_penalty: 1 },
  ...{ max_length: 20, min_length: 0, no_repeat_ngram_size: 0, num_beam_groups: 1, num_beams: 1, output_scores: false },
  ...{
    num_return_sequences: 1,
    output_attentions: false,
    output_hidden_states: false,
    pad_token_id: null,
    prefix: null,
  },
  ...{ problem_type: null, pruned_heads: {}, remove_invalid_values: false, repetition_penalty: 1, return_dict: true },
  ...{
    return_dict_in_generate: false,
    sep_token_id: null,
    suppress_tokens: null,
    task_specific_params: null,
    top_k: 50,
  },
  ...{ temperature: 1, tf_legacy_loss: false, tie_encoder_decoder: false, tie_word_embeddings: true, top_p: 1 },
  ...{ tokenizer_class: null, torchscript: false, transformers_version: '4.57.6', typical_p: 1, use_bfloat16: false },
};

const transformerXL: Json = {
  ...{
    model_type: 'transfo-xl',
    adaptive: true,
    attn_type: 0,
    clamp_len: 1000,
    cutoffs: [8, 16],
    d_embed: 8,
    d_head: 4,
  },
  ...{ d_inner: 8, d_model: 8, div_val: 2, dropatt: 0, dropout: 0.1, init: 'normal', init_range: 0.01, init_std: 0.02 },
  ...{ layer_norm_epsilon: 1e-5, mem_len: 4, n_head: 2, n_layer: 1, pre_lnorm: false, proj_init_std: 0.01 },
  ...{ same_length: true, sample_softmax: -1, untie_r: true, vocab_size: 30 },
};
const xlnet: Json = {
  ...{ model_type: 'xlnet', attn_type: 'bi', bi_data: false, clamp_len: -1, d_head: 4, d_inner: 8, d_model: 8 },
  ...{ dropout: 0.1, end_n_top: 5, ff_activation: 'gelu', initializer_range: 0.02, layer_norm_eps: 1e-12, mem_len: 4 },
  ...{ n_head: 2, n_layer: 1, reuse_len: null, same_length: false, start_n_top: 5, summary_activation: 'tanh' },
  ...{ summary_last_dropout: 0.1, summary_type: 'last', summary_use_proj: true, untie_r: true, use_mems_eval: true },
  ...{ use_mems_train: false, vocab_size: 30 },
};

const without = (file: Json, ...keys: string[]) =>
  Object.fromEntries(Object.entries(file).filter(([key]) => !keys.includes(key)));

test('every key of transformers 4.57.6, and of files published with earlier ones, is taken', () => {
  const old = {
    ...{ proj_share_all_but_first: true, tie_weight: true, ext_len: 0, tgt_len: 128 },
    torch_dtype: 'float16',
  };
  const txl = { ...general, ...transformerXL, tie_projs: [false, true, true], ...old };
  expect(transformerXLConfigFromFile(txl)).toEqual(transformerXLConfigFromFile(transformerXL));
  const early = { dropatt: 0.1, init: 'normal', init_range: 0.1, init_std: 0.02, output_past: true, use_cache: true };
  const ids = { pad_token_id: 5, bos_token_id: 1, eos_token_id: 2 };
  expect(xlnetConfigFromFile({ ...general, ...xlnet, ...ids, ...early })).toEqual(xlnetConfigFromFile(xlnet));
});

describe('proj_share_all_but_first, as TransfoXLConfig of 4.57.6 has it', () => {
  test.each([
    [{}, [false, true, true]],
    [{ proj_share_all_but_first: true }, [false, true, true]],
    [{ proj_share_all_but_first: false }, [false, false, false]],
    [{ proj_share_all_but_first: false, tie_projs: [false, true, false] }, [false, true, false]],
    [{ proj_share_all_but_first: true, tie_projs: [false, false, false] }, [false, false, false]],
    [{ proj_share_all_but_first: false, cutoffs: [] }, [false]],
    [{ tie_projs: null }, [false, false, false]],
    [{ tie_projs: [] }, [false, false, false]],
  ])('%j', (fields, expected) => {
    expect(transformerXLConfigFromFile({ ...transformerXL, ...fields }).tieProjs).toEqual(expected);
  });

  test.each([null, 0, 'false'])('%j is refused', (value) => {
    expect(() => transformerXLConfigFromFile({ ...transformerXL, proj_share_all_but_first: value })).toThrow(
      /config.proj_share_all_but_first: got .*, expected true or false/,
    );
  });

  test('a model made from false has projections of its own in every cluster, and saves them', async () => {
    const names = (file: Json) => {
      const model = new TransformerXLLMHeadModel(transformerXLConfigFromFile(file), { device: 'cpu' });
      const found = [...model.parameters().keys()].filter((name) => name.startsWith('crit.out_projs'));
      model.dispose();
      return found;
    };
    expect(names({ ...transformerXL, proj_share_all_but_first: true })).toEqual(['crit.out_projs.0']);
    const all = [0, 1, 2].map((cluster) => `crit.out_projs.${cluster}`);
    expect(names({ ...transformerXL, proj_share_all_but_first: false })).toEqual(all);
    const folder = mkdtempSync(path.join(scratch, 'projections-'));
    const model = new TransformerXLLMHeadModel(
      transformerXLConfigFromFile({ ...transformerXL, proj_share_all_but_first: false }),
      { device: 'cpu' },
    );
    await model.save(folder);
    expect((JSON.parse(readFileSync(path.join(folder, 'config.json'), 'utf8')) as Json).tie_projs).toEqual([
      false,
      false,
      false,
    ]);
    expect((await TransformerXLLMHeadModel.fromPretrained(folder)).config).toEqual(model.config);
  });
});

test("Hugging Face's other names of fields win over the usual ones, as there", () => {
  const other = { n_token: 40, hidden_size: 16, num_attention_heads: 4, num_hidden_layers: 2 };
  const sizes = { vocabSize: 40, dModel: 16, nHead: 4, nLayer: 2 };
  expect(transformerXLConfigFromFile({ ...transformerXL, ...other })).toMatchObject(sizes);
  expect(xlnetConfigFromFile({ ...xlnet, ...other })).toMatchObject(sizes);
  expect(
    xlnetConfigFromFile({ ...without(xlnet, 'vocab_size', 'd_model', 'n_head', 'n_layer'), ...other }),
  ).toMatchObject(sizes);
});

test("XLNet's d_head must be what d_model and n_head make it", () => {
  expect(() => xlnetConfigFromFile({ ...xlnet, d_head: 8 })).toThrow(
    'config.d_head: got 8, expected d_model / n_head = 4',
  );
});

describe('unknown keys', () => {
  const readers = { transformerXL: transformerXLConfigFromFile, xlnet: xlnetConfigFromFile };
  const files = { transformerXL, xlnet };

  test.each([
    ['transformerXL', 'n_layr', 'n_layer'],
    ['transformerXL', 'mem_length', null],
    ['transformerXL', 'memlen', 'mem_len'],
    ['transformerXL', 'Mem_Len', 'mem_len'],
    ['transformerXL', 'same_lenght', 'same_length'],
    ['transformerXL', 'div_vals', 'div_val'],
    ['transformerXL', 'cutofs', 'cutoffs'],
    ['transformerXL', 'hidden_sizes', 'hidden_size'],
    ['transformerXL', 'proj_share_all_but_frist', 'proj_share_all_but_first'],
    ['transformerXL', 'xlformers_compatibilty', 'xlformers_compatibility'],
    ['transformerXL', 'tie_proj', 'tie_projs'],
    ['transformerXL', 'architecture', 'architectures'],
    ['transformerXL', 'language', null],
    ['transformerXL', 'type', null],
    ['transformerXL', 'cls_token_id', null],
    ['transformerXL', '__proto__', null],
    ['transformerXL', 'x'.repeat(1000), null],
    ['xlnet', 'ff_activaton', 'ff_activation'],
    ['xlnet', 'use_mem_eval', 'use_mems_eval'],
    ['xlnet', 'attn_typ', 'attn_type'],
    ['xlnet', 'bidata', 'bi_data'],
    ['xlnet', 'dropatt', null],
    ['xlnet', 'language', null],
  ] as const)('%s: %p', (model, key, suggestion) => {
    const read = () => readers[model](JSON.parse(`${JSON.stringify(files[model]).slice(0, -1)},"${key}":1}`) as Json);
    if (suggestion === null) expect(read()).toEqual(readers[model](files[model]));
    else expect(read).toThrow(`config.${key}: unknown key; did you mean '${suggestion}'?`);
  });

  test('constructor options have no foreign names', () => {
    expect(() => new TransformerXLLMHeadModel({ language: 'en' } as never)).toThrow(
      /config.language: unknown option; known are vocabSize/,
    );
  });
});

test.each([
  ['transfo-xl', transformerXL, TransformerXLLMHeadModel],
  ['xlnet', xlnet, XLNetLMHeadModel],
] as const)(
  "%s: what config.json says beyond the model's fields is written back by save; what is no longer true is not",
  async (_, file, Model) => {
    const folder = mkdtempSync(path.join(scratch, 'foreign-'));
    const again = path.join(folder, 'again');
    const made = new Model((file === xlnet ? xlnetConfigFromFile : transformerXLConfigFromFile)(file) as never, {
      device: 'cpu',
    });
    await made.save(folder);
    const config = path.join(folder, 'config.json');
    const saved = JSON.parse(readFileSync(config, 'utf8')) as Json;
    const foreign = {
      task_specific_params: { 'text-generation': { do_sample: true, max_length: 250 } },
      tokenizer_class: 'XLNetTokenizer',
      language: 'en',
      nested: { list: [1, { deep: null }] },
    };
    const outdated = { torch_dtype: 'float16', transformers_version: '2.0', hidden_size: 8, quantization_config: {} };
    writeFileSync(config, JSON.stringify({ ...saved, ...foreign, ...outdated }));
    const loaded = await Model.fromPretrained(folder, { device: 'cpu' });
    await loaded.save(again);
    expect(JSON.parse(readFileSync(path.join(again, 'config.json'), 'utf8'))).toEqual({ ...saved, ...foreign });
    const auto = await AutoModel.fromPretrained(again, { device: 'cpu' });
    expect(auto).toBeInstanceOf(Model);
    for (const model of [made, loaded, auto]) model.dispose();
  },
);
