"""Transformer-XL as transformers 4.57 computes it, the last release that has it: the same operators in the same order, with the same names of
weights, for the benchmark on a GPU, which runs with newer releases too. Axes as there: [length, batch, ...] within.

`python scripts/reference/transformer_xl_model.py` compares the two where transformers 4.57 is installed: hidden states, memory, losses,
log-probabilities and gradients are the same to the bit.
"""

import torch
import torch.nn.functional as F
from torch import nn

DEFAULTS = {"untie_r": True, "dropatt": 0.0, "layer_norm_epsilon": 1e-5, "init_std": 0.02}


class Config:
    """Options under Hugging Face's names; those of the published models, with memory of `mem_len` rows."""

    def __init__(self, **options):
        self.__dict__.update(DEFAULTS | options)
        if not self.untie_r or self.same_length or self.clamp_len > 0:
            raise ValueError("expected untie_r, no same_length and no clamp_len")
        # Of each cluster from..to, with embeddings of that size.
        ends = [0, *self.cutoffs, self.vocab_size]
        self.clusters = [(ends[i], ends[i + 1], self.d_embed // self.div_val**i) for i in range(len(ends) - 1)]


def projection(config, size):
    return nn.Parameter(torch.empty(config.d_model, size))


class Embedding(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        parts = [(0, config.vocab_size, config.d_embed)] if config.div_val == 1 else config.clusters
        self.emb_layers = nn.ModuleList(nn.Embedding(end - begin, size) for begin, end, size in parts)
        projected = config.div_val != 1 or config.d_model != config.d_embed
        self.emb_projs = nn.ParameterList(projection(config, size) for _, _, size in parts if projected)

    def forward(self, ids):
        config = self.config
        if config.div_val == 1:
            embedded = self.emb_layers[0](ids)
            if len(self.emb_projs) > 0:
                embedded = F.linear(embedded, self.emb_projs[0])
        else:
            flat, weight = ids.view(-1), self.emb_layers[0].weight
            embedded = torch.zeros([flat.size(0), config.d_model], dtype=weight.dtype, device=weight.device)
            for layer, (begin, end, _), project in zip(self.emb_layers, config.clusters, self.emb_projs):
                rows = ((flat >= begin) & (flat < end)).nonzero().squeeze()
                if rows.numel() == 0:
                    continue
                embedded.index_copy_(0, rows, F.linear(layer(flat.index_select(0, rows) - begin), project))
            embedded = embedded.view(*ids.size(), config.d_model)
        return embedded.mul_(config.d_model**0.5)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads, self.size = config.n_head, config.d_head
        width = self.heads * self.size
        self.qkv_net = nn.Linear(config.d_model, 3 * width, bias=False)
        self.o_net = nn.Linear(width, config.d_model, bias=False)
        self.r_net = nn.Linear(config.d_model, width, bias=False)
        self.layer_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.drop, self.dropatt = nn.Dropout(config.dropout), nn.Dropout(config.dropatt)
        self.r_r_bias = nn.Parameter(torch.empty(self.heads, self.size))
        self.r_w_bias = nn.Parameter(torch.empty(self.heads, self.size))

    @staticmethod
    def shift(x):
        """[query, position, batch, head]: each query's row of distances moves to the keys that they lead to."""
        padded = torch.cat([torch.zeros((x.size(0), 1) + x.size()[2:], device=x.device, dtype=x.dtype), x], dim=1)
        return padded.view(x.size(1) + 1, x.size(0), *x.size()[2:])[1:].view_as(x)

    def forward(self, x, positions, hidden, memory):
        length, batch = x.size(0), x.size(1)
        q, k, v = torch.chunk(self.qkv_net(x if memory is None else torch.cat([memory, x], 0)), 3, dim=-1)
        r = self.r_net(positions).view(-1, self.heads, self.size)
        q = q[-length:].view(length, batch, self.heads, self.size)
        k, v = (each.view(-1, batch, self.heads, self.size) for each in (k, v))
        content = torch.einsum("ibnd,jbnd->ijbn", (q + self.r_w_bias, k))
        scores = content + self.shift(torch.einsum("ibnd,jnd->ijbn", (q + self.r_r_bias, r)))
        scores.mul_(1 / (self.size**0.5))
        # Here Hugging Face's class waits for the device, in every layer. torch.compile, whose graph that would break, is told.
        if length > 1 if torch.compiler.is_compiling() else torch.sum(hidden).item():
            scores = scores.float().masked_fill((hidden == 1)[:, :, :, None], torch.finfo(scores.dtype).min).type_as(scores)
        probabilities = self.dropatt(F.softmax(scores, dim=1))
        out = torch.einsum("ijbn,jbnd->ibnd", (probabilities, v))
        out = self.o_net(out.contiguous().view(length, batch, self.heads * self.size))
        return self.layer_norm(x + self.drop(out))


class FeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        inner, drop = config.d_inner, config.dropout
        layers = [nn.Linear(config.d_model, inner), nn.ReLU(inplace=True), nn.Dropout(drop), nn.Linear(inner, config.d_model), nn.Dropout(drop)]
        self.CoreNet = nn.Sequential(*layers)
        self.layer_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)

    def forward(self, x):
        return self.layer_norm(x + self.CoreNet(x))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.dec_attn, self.pos_ff = Attention(config), FeedForward(config)

    def forward(self, x, positions, hidden, memory):
        return self.pos_ff(self.dec_attn(x, positions, hidden, memory))


class Positions(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.register_buffer("inv_freq", 1 / (10000 ** (torch.arange(0.0, size, 2.0) / size)))

    def forward(self, distances):
        angles = torch.outer(distances, self.inv_freq)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, None, :]


class Body(nn.Module):
    """Ids [batch, length] and the memory to hidden states [batch, length, d_model] and the next memory, [rows, batch, d_model] a layer."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.word_emb, self.pos_emb = Embedding(config), Positions(config.d_model)
        self.drop = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layer))

    def init_mems(self, batch):
        """Zeros, as Hugging Face's class begins; None where nothing is to be remembered."""
        config, weight = self.config, self.word_emb.emb_layers[0].weight
        if config.mem_len == 0:
            return None
        return [torch.zeros(config.mem_len, batch, config.d_model, dtype=weight.dtype, device=weight.device) for _ in self.layers]

    def forward(self, ids, mems=None):
        config = self.config
        ids = ids.transpose(0, 1).contiguous()
        length, batch = ids.size()
        x = self.word_emb(ids)
        if mems is None:
            mems = self.init_mems(batch)
        past = mems[0].size(0) if mems is not None else 0
        keys = past + length
        hidden = torch.triu(x.new_ones((length, keys), dtype=torch.bool), diagonal=1 + past)[:, :, None]
        positions = self.pos_emb(torch.arange(keys - 1, -1, -1.0, device=x.device, dtype=torch.int64).to(x.dtype))
        x, positions = self.drop(x), self.drop(positions)
        inputs = []
        for i, layer in enumerate(self.layers):
            inputs.append(x)
            x = layer(x, positions, hidden, None if mems is None else mems[i])
        x = self.drop(x)
        if mems is not None:
            with torch.no_grad():
                first = max(0, keys - config.mem_len)
                mems = [torch.cat([old, new], dim=0)[first:keys].detach() for old, new in zip(mems, inputs)]
        return x.transpose(0, 1).contiguous(), mems


class AdaptiveSoftmax(nn.Module):
    """Losses of hidden states and labels, which are shifted by one within; without labels, log-probabilities of all words."""

    def __init__(self, config, embedding):
        super().__init__()
        self.config = config
        self.cluster_weight = nn.Parameter(torch.empty(len(config.cutoffs), config.d_embed))
        self.cluster_bias = nn.Parameter(torch.empty(len(config.cutoffs)))
        self.out_layers = nn.ModuleList()
        for layer in embedding.emb_layers:
            self.out_layers.append(nn.Linear(layer.embedding_dim, layer.num_embeddings))
            self.out_layers[-1].weight = layer.weight
        # Those of all clusters but the first are the embedding's.
        self.out_projs = nn.ParameterList()
        for i, (_, _, size) in enumerate(config.clusters if len(embedding.emb_projs) > 0 else []):
            of_embedding = embedding.emb_projs[0 if config.div_val == 1 else i]
            self.out_projs.append(of_embedding if i > 0 else projection(config, config.d_embed if config.div_val == 1 else size))

    def scores(self, x, cluster):
        begin, end, _ = self.config.clusters[cluster]
        if self.config.div_val == 1:
            weight, bias = (each[begin:end] for each in (self.out_layers[0].weight, self.out_layers[0].bias))
        else:
            weight, bias = self.out_layers[cluster].weight, self.out_layers[cluster].bias
        if cluster == 0:
            weight, bias = torch.cat([weight, self.cluster_weight], dim=0), torch.cat([bias, self.cluster_bias], dim=0)
        if len(self.out_projs) > 0:
            x = F.linear(x, self.out_projs[cluster].t().contiguous())
        return F.log_softmax(F.linear(x, weight, bias=bias), dim=1)

    def forward(self, x, labels=None):
        if labels is not None:
            x, labels = x[..., :-1, :].contiguous(), labels[..., 1:].contiguous().view(-1)
        x = x.view(-1, x.size(-1))
        head = self.scores(x, 0)
        first = self.config.cutoffs[0]
        if labels is None:
            out = x.new_empty((x.size(0), self.config.vocab_size))
            out[:, :first] = head[:, :first]
            for cluster, (begin, end, _) in list(enumerate(self.config.clusters))[1:]:
                out[:, begin:end] = head[:, first + cluster - 1, None] + self.scores(x, cluster)
            return out
        out = torch.zeros_like(labels, dtype=x.dtype)
        offset = 0
        for cluster, (begin, end, _) in enumerate(self.config.clusters):
            rows = ((labels >= begin) & (labels < end)).nonzero().squeeze()
            if rows.numel() == 0:
                continue
            target, of_head = labels.index_select(0, rows) - begin, head.index_select(0, rows)
            tail = x.index_select(0, rows)
            if cluster == 0:
                log_probability = of_head.gather(1, target[:, None]).squeeze(1)
            else:
                log_probability = of_head[:, first + cluster - 1] + self.scores(tail, cluster).gather(1, target[:, None]).squeeze(1)
            # One cluster behind the other, as there, not in the order of the labels.
            out[offset : offset + log_probability.size(0)].copy_(-log_probability)
            offset += log_probability.size(0)
        return out


class LanguageModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.transformer = Body(config)
        self.crit = AdaptiveSoftmax(config, self.transformer.word_emb)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                nn.init.normal_(parameter, 1.0 if name.endswith("layer_norm.weight") else 0.0, config.init_std)


def compare():
    import transformer_xl  # noqa: F401  mends Hugging Face's class
    from transformers.models.deprecated.transfo_xl import TransfoXLConfig, TransfoXLLMHeadModel

    shape = {"vocab_size": 60, "cutoffs": [20, 40], "n_layer": 2, "d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 24, "mem_len": 5}
    rest = {"dropout": 0.1, "clamp_len": -1, "same_length": False}
    for div_val, d_embed, memory in ((1, 16, True), (1, 12, True), (2, 16, True), (2, 16, False)):
        options = shape | rest | {"div_val": div_val, "d_embed": d_embed} | ({} if memory else {"mem_len": 0})
        torch.manual_seed(0)
        ours, theirs = LanguageModel(Config(**options)), TransfoXLLMHeadModel(TransfoXLConfig(**options))
        theirs.load_state_dict(ours.state_dict())
        ids, labels = torch.randint(0, 60, (2, 6)), torch.randint(0, 60, (2, 7))
        results = []
        for model in (ours, theirs):
            torch.manual_seed(1)
            model.train()
            mems, losses = None, []
            for _ in range(2):
                out = model.transformer(ids, mems=mems)
                x, mems = out if model is ours else (out.last_hidden_state, out.mems)
                losses.append(model.crit(F.pad(x, (0, 0, 0, 1)), labels))
            torch.stack(losses).mean().backward()
            gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
            results.append([x, *(mems or []), *losses, model.crit(x, None), *(gradients[name] for name in sorted(gradients))])
        if not all(torch.equal(a, b) for a, b in zip(*results, strict=True)):
            raise SystemExit(f"not the same: {options}")
    print("the same to the bit")


if __name__ == "__main__":
    compare()
