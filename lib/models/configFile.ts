/** What config.json holds besides the fields of a model: Hugging Face's general ones, other programs' ones, and misspelt ones. */
import { XlformersError } from '../errors';
import { nearest } from '../options';

/** What a model makes of config.json's keys. */
export interface ConfigKeys {
  /** Those it reads or that `save` writes anew. */
  own: readonly string[];
  /** Those that published files have and that mean nothing to it. */
  unused: readonly string[];
}

/** Other names of fields, which win over these (`attribute_map` of both Hugging Face configurations). */
const aliases: Readonly<Record<string, string>> = {
  vocab_size: 'n_token',
  d_model: 'hidden_size',
  n_head: 'num_attention_heads',
  n_layer: 'num_hidden_layers',
};

/** Read whatever the model is, and written anew by `save`. */
const common = [
  ...['architectures', 'model_type', 'id2label', 'label2id', 'num_labels', 'problem_type'],
  ...Object.values(aliases),
];

/** What a file says of itself, and a file that `save` writes no longer is. */
const outdated = [
  ...['dtype', 'torch_dtype', 'quantization_config'],
  ...['transformers_version', '_name_or_path', 'name_or_path', '_commit_hash'],
];

/** Fields of `PretrainedConfig` in transformers 4.57 and before; none changes what the models here compute. */
const general = new Set([
  ...['return_dict', 'output_hidden_states', 'output_attentions', 'torchscript', 'use_bfloat16', 'tf_legacy_loss'],
  ...['pruned_heads', 'chunk_size_feed_forward', 'is_encoder_decoder', 'is_decoder', 'cross_attention_hidden_size'],
  ...['add_cross_attention', 'tie_encoder_decoder', 'finetuning_task', 'task_specific_params', 'tokenizer_class'],
  ...['prefix', 'bos_token_id', 'pad_token_id', 'eos_token_id', 'sep_token_id', 'cls_token_id', 'unk_token_id'],
  ...['mask_token_id', 'decoder_start_token_id', 'attn_implementation', '_attn_implementation_internal'],
  ...['gradient_checkpointing', 'use_cache', 'output_past', 'auto_map', 'max_position_embeddings'],
  ...['max_length', 'min_length', 'do_sample', 'early_stopping', 'num_beams', 'num_beam_groups', 'diversity_penalty'],
  ...['temperature', 'top_k', 'top_p', 'typical_p', 'repetition_penalty', 'length_penalty', 'no_repeat_ngram_size'],
  ...['encoder_no_repeat_ngram_size', 'bad_words_ids', 'num_return_sequences', 'output_scores'],
  ...['return_dict_in_generate', 'forced_bos_token_id', 'forced_eos_token_id', 'remove_invalid_values'],
  ...['exponential_decay_length_penalty', 'suppress_tokens', 'begin_suppress_tokens'],
]);

/** A field under its name or its other one. */
export function fieldOf(file: Readonly<Record<string, unknown>>, name: string): unknown {
  return file[aliases[name] ?? name] ?? file[name];
}

/**
 * Refuses keys that look like misspelt ones of the model's own: they would be passed over, and another model come of it. Whatever else
 * is unknown is another program's affair.
 * @throws XlformersError ERR_CONFIG naming the key and the suggestion
 */
export function requireNoMisspelling(file: Readonly<Record<string, unknown>>, { own, unused }: ConfigKeys): void {
  const meaningful = [...own, ...common];
  for (const key of Object.keys(file)) {
    if (meaningful.includes(key) || unused.includes(key) || outdated.includes(key) || general.has(key)) continue;
    // Two edits make any word of four letters another one.
    const close = nearest(key, meaningful, key.length < 5 ? 1 : 2);
    if (close !== undefined) {
      throw new XlformersError('ERR_CONFIG', `config.${key}: unknown key; did you mean '${close}'?`);
    }
  }
}

/** The keys that mean nothing to the model, for the config.json that it saves. */
export function foreignKeys(file: Readonly<Record<string, unknown>>, { own }: ConfigKeys): Record<string, unknown> {
  const dropped = new Set([...own, ...common, ...outdated]);
  return Object.fromEntries(Object.entries(file).filter(([key]) => !dropped.has(key)));
}
