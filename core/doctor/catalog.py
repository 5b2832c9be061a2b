"""Every finding code: what it means, what it looks like, how the doctor decides, and what to do.

`tui-lab doctor --explain CODE` prints an entry, and `python -m tools.doctor_guide` writes the tables of
docs/guide/doctor.md. Needs no torch.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from tui_lab.core.doctor.findings import FindingCode

Section = Literal["data", "model", "loss", "training", "monitors"]
SECTIONS: tuple[Section, ...] = get_args(Section)


@dataclass(frozen=True)
class Entry:
    """What is known about a code.

    meaning: what is wrong. symptom: what it looks like in training. test: how the doctor decides. fix: what to do.
    """

    code: FindingCode
    section: Section
    meaning: str
    symptom: str
    test: str
    fix: str


def _entries(section: Section, **texts: tuple[str, str, str, str]) -> list[Entry]:
    return [Entry(code, section, *text) for code, text in texts.items()]  # type: ignore[arg-type]


_ALL = [
    *_entries(
        "data",
        wrong_vocab=(
            "The model's vocabulary does not match the ids: an id is outside of it, or it has entries that no id uses.",
            "An index error, on a GPU an opaque device-side assert; or a loss that starts above ln V of the tokenizer.",
            "Ids of eight batches are compared with the embedding that is called with them, and its size with the "
            "tokenizer's; in a script, with that of the only tokenizer of a library among its variables. Rounding up "
            "to a multiple of 128 is accepted, and a multiple of 8 that is up to 3 % larger.",
            "Build the model with the tokenizer's vocabulary size, and mark ignored targets with the loss's "
            "ignore_index.",
        ),
        shuffle_every_step=(
            "The loader draws other examples than its order says, or than were pinned.",
            "One example cannot be overfitted; within an epoch some examples come twice, others never.",
            "Sixteen steps are drawn and compared with the order of the epoch or the number of pinned examples.",
            "Shuffle once per epoch, with a seed, outside of the step.",
        ),
        constant_batch=(
            "Every step trains on the same examples, although none were pinned.",
            "The training loss falls to zero, and nothing else is learned.",
            "The rows of sixteen steps are the same rows. In a script, it is a finding if its DataLoader begins again "
            "for each step, or if it validates and has other training data, else a hint: a step may take all data.",
            "Create the loader's iterator outside of the loop, and take the next batch at each step.",
        ),
        shifted_targets=(
            "The target at position t is not the token that follows: it is one too far, one short, or wraps around.",
            "The loss falls, and generated text skips or repeats tokens.",
            "The trained targets are read from the gradient of the loss, and compared with the inputs, moved by one or "
            "two positions either way. A hint if they are earlier inputs and the task may ask for these.",
            "Shift once, in the loader or in the loss: x = tokens[:-1], y = tokens[1:].",
        ),
        copied_targets=(
            "The target is the input at the same position, and neither the loss nor the model shifts it.",
            "The loss falls to zero fast, and generated text repeats the prompt's last token.",
            "Every trained target equals the input at its own position. A hint if most do, and the others have the "
            "mask of a masked language model as input.",
            "Shift by one: x = tokens[:-1], y = tokens[1:].",
        ),
        swapped_rows=(
            "Inputs and targets come from different examples.",
            "The model can only memorize the pairs; validation loss does not fall.",
            "Targets that are neither what the task's rule says nor a shift of it; without a rule, targets that are "
            "the next tokens of another row of their batch.",
            "Cut x and y from the same row, and shuffle both with the same permutation.",
        ),
        unmasked_targets=(
            "Targets count in the loss at positions where the task defines none.",
            "Part of the loss stays high and hides how well the rest is learned.",
            "Needs a rule for the task; targets are compared with it.",
            "Set the targets of those positions to the loss's ignore_index.",
        ),
        ignored_targets=(
            "Most targets are ignored, so most of the compute gives no gradient.",
            "The loss is noisy and falls slowly.",
            "No target counts, or only one per row where the task's rule defines more; or most ids of a row come after "
            "its last target, although the model sees only earlier ones; or all rows are trained from their first id "
            "or the same template on, and their ends are not, as with a reversed mask, also of several turns. A hint "
            "if the loss uses fewer than half of the targets that are not ignored.",
            "Ignore only padding and the prompt.",
        ),
        not_shuffled=(
            "The training data are sorted by class, and the loop draws them in that order.",
            "The loss swings, low within a class and high where the next one begins; accuracy stays near chance.",
            "The loader has torch's SequentialSampler, and up to 256 items at equal distances over its data set have "
            "one run of each class, of 16 items or more.",
            "Pass shuffle=True to the DataLoader, or shuffle the data set before the training.",
        ),
        missing_labels=(
            "No labels reach a model that computes its loss from them, or an evaluation that needs them.",
            "A library's error: the model returned no loss, a metric was not found, None has no backward().",
            "The script ends with such an error, and the batch of the model has no labels, or label_names of a Trainer "
            "names no input of its model.",
            "Call the column labels, or use a collator that makes them; leave label_names out.",
        ),
        data_changed=(
            "Reading an item changes what the data set stores, such as by an augmentation or a normalization in place.",
            "The loss rises or stalls after a few epochs, since every epoch changes the data further.",
            "Items of the data sets that the loop read from are read twice more; the second read changes stored "
            "values. A hint if worker processes read, which have copies.",
            "Copy the item in __getitem__ before it is changed: .copy() for arrays, .clone() for tensors.",
        ),
        prompt_trained=(
            "The loss counts the targets of a prompt, which nothing predicts, and not only those of the answer.",
            "The loss stays high on average, whatever the model learns about the answer, which it learns slowly.",
            "Rows that agree in one or two ids, or in a token that they contain, are compared in each later target. "
            "A hint if the targets from the start of the rows on agree only by chance, and all later ones more often; "
            "or if the batch has a mask that begins with zeros, and neither the model nor the loss uses it. Where an "
            "answer begins is known from the chat template of the script's tokenizer, or from the id after which the "
            "targets begin: a finding if the prompts of some rows are trained and those of others ignored, a hint if "
            "all are, or a part of each.",
            "Set the targets of the prompt to the ignore_index of the loss.",
        ),
        leaked_validation=(
            "Validation examples also occur in the training data.",
            "Validation loss follows the training loss down, and overfitting never shows.",
            "More than 5 % of the compared validation examples are training examples. In a script: more than half of "
            "its validation or test rows are training rows, or overlap them in three quarters of their ids; or at "
            "least 10, and as many as training windows of one stream overlap each other; or more than half of the "
            "items of its validation data set are training items: by their index, by their values, "
            "or, where these repeat in any case, by their order.",
            "Split before cutting windows: into contiguous parts, or by a hash of each example.",
        ),
        padding_trained=(
            "The fill at the end of short rows counts in the loss.",
            "The loss falls fast and looks low; the text itself is learned slower.",
            "The gradient of the loss is not 0 where rows repeat one token to their end. A finding if a mask, a "
            "padding_idx, the model's config, the script's tokenizer or rows that are padded to the longest of each "
            "batch show that it is padding, else a hint.",
            "Set the targets of the padding to the loss's ignore_index, all but an end token.",
        ),
        end_never_target=(
            "The end of a row is never a target, often since the padding token is also the end token.",
            "The loss is fine, and generation does not stop.",
            "The last trained targets of the rows differ, and the token that follows is never one. A finding if a "
            "mask, the model's config or the longest row of each batch shows that it is a real end, else a hint.",
            "Pad with an id of its own, or keep the first end token of each row as a target.",
        ),
    ),
    *_entries(
        "model",
        forward_fails=(
            "The model raises an exception on a batch.",
            "Training stops, or never starts.",
            "One forward pass of a few rows, and one of a whole row.",
            "Read the evidence: it is the exception of your code.",
        ),
        output_shape=(
            "The model does not return logits [B, T, V] for ids [B, T].",
            "A loss over the wrong dimension runs without an error and trains the wrong thing.",
            "The shape of the output of one forward pass.",
            "Project to the vocabulary last, and keep the order batch, time, vocabulary.",
        ),
        not_finite=(
            "A value is NaN or infinite before any training.",
            "The loss is NaN from some step on, and every weight after it.",
            "One forward pass; the first module with such an output is named.",
            "Look there for a division by zero, the log of a number that is not positive, or a row of scores that is "
            "fully masked.",
        ),
        nondeterministic=(
            "Two runs with the same seed differ.",
            "No result can be reproduced, and no change can be judged by a single run.",
            "Two forward passes and two gradients with all generators seeded alike.",
            "Draw every random number from a generator that the seed sets, and keep no state between calls.",
        ),
        weights_change_in_forward=(
            "The forward pass assigns to parameters of the model.",
            "Evaluation changes the model, and the same batch gives another loss each time.",
            "The parameters of a copy before and after two forward passes without a step.",
            "Compute with a changed value instead of assigning to the parameter; keep running values in buffers.",
        ),
        dropout_in_eval=(
            "Dropout is active in evaluation mode.",
            "Validation loss is noisy and too high; generated text suffers.",
            "After model.eval(), two passes with different seeds differ.",
            "Call model.eval() before evaluating, and pass training=self.training to F.dropout.",
        ),
        random_in_eval=(
            "The model draws random numbers in evaluation mode, without any dropout.",
            "The validation loss varies from one evaluation of the same weights to the next.",
            "After model.eval(), two passes with different seeds differ, and no dropout is active. A finding if the "
            "forward pass creates layers, else a hint: a variational autoencoder or a diffusion model samples on "
            "purpose.",
            "Create layers in __init__. For a repeatable validation loss, use the mean instead of a sample, or a fixed "
            "seed, in evaluation.",
        ),
        attention_rows=(
            "The softmax of attention runs over the queries, the heads or the batch, not over the keys.",
            "Slow learning, often with a leak of later tokens.",
            "The weights that the values are multiplied by, in any code that calls a softmax, are summed.",
            "Apply softmax(dim=-1) to the scores [B, H, T query, T key].",
        ),
        score_scale=(
            "The attention scores are not divided by √d_head, or multiplied by it, or divided twice.",
            "Attention saturates early: loss falls slowly, and attention maps show single spots.",
            "The factor between q kᵀ and the softmax is followed through the operations. A missing division is a hint, "
            "since some designs omit it on purpose (T5).",
            "Divide q kᵀ by √d_head once.",
        ),
        mask_after_softmax=(
            "The mask sets attention weights to zero after the softmax, so they no longer sum to one.",
            "A small leak of later tokens through the divisor; early positions get almost no attention.",
            "The weights that the values are multiplied by are compared with what the softmax returned.",
            "Mask before the softmax: scores.masked_fill(mask, -inf).softmax(dim=-1).",
        ),
        attention_saturated=(
            "Each query looks at a single key before any training.",
            "The gradient of attention is almost zero, so it hardly learns.",
            "The largest weight of a query is above 0.95 on average in an untrained model. It is a hint.",
            "Look for scores that are too large: a missing division by √d_head, large initial weights, no norm.",
        ),
        causal_leak=(
            "A position sees later positions, so the answer is in its input.",
            "The loss falls to near zero, and generated text is meaningless.",
            "Each token is exchanged by itself, in evaluation and in training mode; the logits at earlier positions "
            "whose targets count must stay the same.",
            "Set the scores above the diagonal to -inf before the softmax over the keys.",
        ),
        heads_mixed=(
            "A reshape splits or merges attention heads without moving the head axis, which mixes positions.",
            "Later tokens leak, or positions see only a block of others; the model learns slowly or cheats.",
            "The position of each element is followed through reshapes and transposes; the mixture shows in which "
            "logits depend on which tokens.",
            "Split with view(B, T, H, d).transpose(1, 2), and merge with transpose(1, 2).reshape(B, T, C).",
        ),
        norm_axis=(
            "A norm runs over positions or rows of the batch, not only over the features.",
            "Later tokens or other rows leak; validation and generation differ from training.",
            "Logits depend on later tokens or other rows, and a norm reduces over elements of several positions.",
            "Use nn.LayerNorm(d_model) over the last axis.",
        ),
        no_context=(
            "Each position sees only itself.",
            "The loss stops at that of bigrams.",
            "Tokens in the first half are exchanged; the logits in the second half stay the same.",
            "Check that the attention output is added back, and that the mask is not inverted.",
        ),
        batch_mixing=(
            "The rows of a batch influence each other.",
            "Validation and generation give other results than training, since they use other batches.",
            "Each token of one row is exchanged, in evaluation and in training mode; the logits of other rows change.",
            "Look for a view or a mean over the batch dimension, and for batch norm.",
        ),
        input_ignored=(
            "The output does not depend on the input.",
            "The loss stops at the entropy of the token frequencies.",
            "All tokens are exchanged; the logits stay the same, also after a few updates.",
            "Follow the embedding to the first layer: is it used, and is it multiplied by zero?",
        ),
        initial_loss=(
            "The untrained model is confidently wrong.",
            "The loss starts far above ln V, and the first steps only undo the initial scale.",
            "A first loss three nats above ln V; a hint from one nat on. Common initializations stay within 0.5.",
            "Use smaller initial weights: 0.02 for embeddings and head, Glorot or Kaiming elsewhere.",
        ),
        dead_relus=(
            "Most units of a feed-forward layer never fire.",
            "The loss stops early; a larger model does not help.",
            "The inputs of linear layers that come from a ReLU: 90 % of the units are zero for every token.",
            "Initialize biases to zero and weights with Glorot or Kaiming; lower the learning rate if units die later.",
        ),
        frozen_parameters=(
            "Parameters of an untrained model do not require gradients.",
            "The loss falls, but not as far as it could.",
            "requires_grad is False in a model that was not trained before, or for all weights of any model; tables of "
            "positions are accepted.",
            "Call requires_grad_(True), unless this is intended.",
        ),
        unregistered_parameters=(
            "Tensors that get gradients are not parameters of the model.",
            "No optimizer updates them, no checkpoint saves them, and .to(device) does not move them.",
            "The leaves of the loss's graph are compared with model.parameters().",
            "Store layers in nn.ModuleList or nn.ModuleDict, and tensors in nn.Parameter.",
        ),
        no_positions=(
            "The model does not know where a token stands.",
            "The loss stops above that of a model with positions; word order is random in generated text.",
            "The position table gets no gradient, or the order of earlier tokens changes nothing after the first "
            "block.",
            "Add positions to the token embedding, or rotate q and k, along the time axis.",
        ),
        no_residual=(
            "A block does not add its input to what it computes.",
            "Deep models hardly learn: gradients and the token itself get lost on the way.",
            "The mean of the diagonal of the block's Jacobian is below 0.06, and no path of additions leads from its "
            "input to its output.",
            "Add the input back after attention and after the feed-forward part: x = x + attention(norm(x)).",
        ),
        padding_attended=(
            "Padding changes the logits of real tokens, or the output of the row.",
            "Results depend on how long the other rows of a batch are.",
            "Tokens under the mask are exchanged, or padding is added under a mask; logits of real tokens change. If "
            "the script's tokenizer names the padding and the model takes an attention_mask: outputs of real tokens "
            "change with the embedding of the padding. For one output per row: padded rows alone, with and without "
            "their padding; the output changes by more than 0.25 of the distance between two rows.",
            "Give every attention the padding mask, in the form that it expects; take a recurrent layer's state at the "
            "last real token, or pack the sequences.",
        ),
        prefix_differs=(
            "A row's first tokens alone get other logits than within the longer row.",
            "Generation, which feeds shorter rows, is worse than the validation loss suggests.",
            "The first half of the probe is passed alone, and compared with the first half of the whole.",
            "Look for what depends on the length: masks and positions counted from the end, means over the row.",
        ),
        mode_difference=(
            "Without dropout, training mode still computes something else than evaluation mode.",
            "The validation loss is computed by a different function from the one that is trained.",
            "Logits of both modes are compared with every dropout switched off. It is a hint.",
            "Look for `if self.training:` in forward.",
        ),
        cache_differs=(
            "Generation with a key/value cache computes other logits than the model without it.",
            "The loss is good, but generated text is not.",
            "The logits of each generated token are compared with a full forward pass over the same tokens.",
            "Mask the prompt's pass, continue the positions, and append keys and values along the time axis.",
        ),
        device_difference=(
            "The model computes something else on the accelerator than on the CPU.",
            "Training on one device goes well and on the other not.",
            "The logits of one batch on both devices differ by more than rounding.",
            "Look for tensors created on the wrong device or without a seed, and for operations in low precision.",
        ),
        missing_gradient=(
            "Parameters get no gradient.",
            "They keep their initial values, and the other layers learn around them.",
            "Twelve backward passes on several batches and seeds.",
            "Between them and the loss, look for .detach(), .data, torch.no_grad(), .item() or an argmax, and for "
            "modules that are never called.",
        ),
        gradient_flow=(
            "The gradient vanishes or explodes from layer to layer.",
            "Some layers barely learn, others overshoot.",
            "Norms of corresponding matrices differ by more than 10,000; healthy designs stay below 100.",
            "Add residual connections and normalization, or initialize with a scale that preserves the norm.",
        ),
        tied_head=(
            "Two modules share one tensor, but the design does not tie them.",
            "The model has fewer parameters than its design, and each use changes the other's weights.",
            "Two names for one parameter.",
            "Give each its own parameter; tie weights only on purpose.",
        ),
    ),
    *_entries(
        "loss",
        double_softmax=(
            "Softmax is applied twice: cross_entropy already includes it.",
            "The loss starts at ln V and cannot fall below ln(1 + (V − 1) / e), at any learning rate.",
            "The loss and its gradient for given logits are those of a cross-entropy of probabilities.",
            "Pass the logits to cross_entropy; use softmax only for sampling.",
        ),
        double_shift=(
            "The targets are shifted twice: in the loader and in the loss or the model.",
            "The loss falls, and generated text skips every second token.",
            "The trained target at t is the token at t + 2.",
            "Shift once. Hugging Face models shift `labels` themselves, so pass them the unshifted inputs.",
        ),
        missing_log_softmax=(
            "nll_loss receives logits.",
            "The loss is negative and falls without bound.",
            "The loss for given logits is F.nll_loss of the logits.",
            "Use F.cross_entropy for logits; F.nll_loss expects log-probabilities.",
        ),
        scrambled_logits=(
            "The logits are reshaped where they should be transposed.",
            "The loss falls a little and then stays.",
            "The loss for given logits is that of logits.reshape(B, V, T).",
            "Use F.cross_entropy(logits.flatten(0, 1), y.flatten()), or logits.transpose(1, 2).",
        ),
        gradient_ascent=(
            "Training maximizes the loss.",
            "The loss rises, or a reported loss falls while accuracy falls too.",
            "The sign of the loss for given logits, and the cosine between step and gradient.",
            "Minimize the negative log-likelihood; F.cross_entropy already has the right sign.",
        ),
        summed_loss=(
            "The loss is summed over the targets, not averaged.",
            "A learning rate that suits one batch size fails with another; clipping is always active.",
            "The loss for given logits is the mean times the number of targets.",
            'Use reduction="mean", or divide by the number of counted targets.',
        ),
        wrong_divisor=(
            "The loss is divided by a number other than that of the counted targets.",
            "Loss and step size depend on how many targets a batch ignores.",
            "The loss for given logits is the sum divided by the rows or by all positions.",
            "Divide by the number of counted targets.",
        ),
        activated_logits=(
            "An activation follows the head, so logits are never negative.",
            "The loss stops high: unlikely tokens keep too much probability.",
            "No logit of a forward pass is negative, and they do not sum to one.",
            "Return the output of the last linear layer, without ReLU, sigmoid or softmax.",
        ),
        output_broadcast=(
            "Outputs [B, 1] and targets [B] are broadcast to [B, B], so every output is compared with every target.",
            "The model predicts the mean of all targets; torch warns of a different target size.",
            "The shapes that the loss combines are recorded.",
            "Give both the same shape: output.squeeze(-1), or targets.unsqueeze(-1).",
        ),
        double_sigmoid=(
            "Sigmoid is applied twice: binary_cross_entropy_with_logits already includes it.",
            "The loss stops between 0.31 and 0.69, and no answer is certain.",
            "The gradient of the loss with respect to the outputs is that of a binary cross-entropy of sigmoids.",
            "Pass the logits to binary_cross_entropy_with_logits; use sigmoid only for predictions.",
        ),
        missing_sigmoid=(
            "Binary cross-entropy gets the output of a linear layer, cut off at 0 and 1, instead of a probability.",
            "Many rows are never learned; torch's error that values must be between 0 and 1, without the cut.",
            "The graph from the input of torch's binary_cross_entropy leads to a linear layer, with clamps and ReLUs "
            "between them only.",
            "Pass the output of the layer itself to binary_cross_entropy_with_logits; use sigmoid for predictions.",
        ),
        exclusive_labels=(
            "Rows have several labels each, but a softmax makes them mutually exclusive.",
            "The loss stops far above zero; the model finds one label of a row and misses the others.",
            "More than a tenth of the rows have several targets of 1 in a binary cross-entropy whose input comes from "
            "a softmax. A hint for such targets in cross_entropy, which includes a softmax.",
            "Pass the logits to binary_cross_entropy_with_logits.",
        ),
        softmax_of_one=(
            "A softmax runs over an axis of one value, so the output is always 1.",
            "The loss does not change, and no weight gets a gradient.",
            "The graph from the input of a loss function of torch leads to a softmax, whose axis has the size 1.",
            "For one output use sigmoid; for a softmax return one output for each class, and take their axis.",
        ),
        detached_loss=(
            "The loss is detached from the model: no weight is in the graph that computed it.",
            "backward() raises `element 0 of tensors does not require grad`, or the loss stays where it is.",
            "The graph of the loss is followed to its ends, in the first backward calls; none is a weight.",
            "Compute the loss with gradients from the model's output itself: not under torch.no_grad(), and not from "
            ".detach(), .data, .item(), .numpy(), argmax() or a new torch.tensor(…).",
        ),
    ),
    *_entries(
        "training",
        stale_optimizer=(
            "The optimizer holds none of the model's parameters, only frozen ones, or the old tensor of one that was "
            "replaced since.",
            "The loss does not move at any learning rate.",
            "Its parameters are compared with the model's; a tensor that no module has any more is an old one.",
            "Create the optimizer after the model, and after anything that freezes, adds or replaces parameters.",
        ),
        missing_from_optimizer=(
            "The optimizer does not hold all trainable parameters, or the updates by hand leave some out.",
            "The loss falls, but not as far as it could.",
            "Its parameters are compared with the model's; those that are missing are named. By hand, it is those that "
            "never change, though the smallest change of the others, in proportion to the gradient, would show.",
            "Pass model.parameters(), or check that the groups together contain all of them.",
        ),
        update_ignores_model=(
            "Case.update does not use the model that it is given.",
            "The doctor cannot check the update.",
            "None of the model's modules is called during an update.",
            "In Case.update, use the model and the optimizers passed as arguments.",
        ),
        no_backward=(
            "The loop never calls backward() on the model's loss.",
            "The loss does not move.",
            "No parameter gets a gradient.",
            "Call loss.backward() before optimizer.step().",
        ),
        no_step=(
            "The loop never calls optimizer.step().",
            "The loss does not move.",
            "Gradients, but no step.",
            "Call optimizer.step() after loss.backward().",
        ),
        cleared_before_step=(
            "The gradients are cleared between backward() and step().",
            "The loss does not move.",
            "Backward gives a gradient, and the step receives none.",
            "Call zero_grad() before backward(), or after step().",
        ),
        gradient_clipped=(
            "Clipping removes almost all of the gradient.",
            "SGD barely moves the weights; Adam's epsilon dominates.",
            "The step receives less than a millionth of what backward gave.",
            "Clip to a norm of about 1.",
        ),
        no_zero_grad=(
            "Gradients are never cleared, so they add up over the steps.",
            "The loss falls at first, then oscillates or diverges.",
            "Before the first backward() of later updates, the gradients are not zero.",
            "Call optimizer.zero_grad() once per update; by hand, set p.grad = None after the update.",
        ),
        eval_in_training=(
            "The model trains in evaluation mode, so dropout is never applied.",
            "Training and validation loss drift apart.",
            "The mode of every forward pass of an update.",
            "Call model.train() before each step; an evaluation leaves the model in evaluation mode.",
        ),
        dropout_too_high=(
            "Dropout removes more than three quarters of all activations.",
            "The loss barely falls.",
            "The rate; Srivastava et al. 2014 use 0.2 to 0.5. In PyTorch, p is the probability of dropping.",
            "Use 0 to overfit on purpose, and 0.1 to 0.3 for small datasets.",
        ),
        cleared_between_backwards=(
            "The gradients are cleared before each micro-batch, so a step gets those of the last one only.",
            "Gradient accumulation behaves like training on small batches.",
            "In every update, each backward call of the same line finds the gradients of the one before cleared. "
            "Repeated calls on the same rows, as in adversarial training, do not count.",
            "Call zero_grad() once per step, outside of the loop over micro-batches.",
        ),
        clip_before_unscale=(
            "Gradients are clipped while they are still multiplied by GradScaler's loss scale.",
            "With mixed precision SGD barely learns; without it training works.",
            "In every update clipping comes after backward() and before any unscale_(), and the scale is above one. "
            "What the step receives is compared with what backward() gave.",
            "Call scaler.unscale_(optimizer) before clipping.",
        ),
        loss_scale_kept=(
            "The optimizer steps with gradients that are still multiplied by GradScaler's loss scale.",
            "The loss explodes with SGD; with Adam it seems to work until gradients are clipped.",
            "The norm that the step receives is the loss scale times the norm that backward() gave, within 2 %.",
            "Call scaler.step(optimizer) instead of optimizer.step(), then scaler.update().",
        ),
        loss_not_scaled=(
            "A loss is backpropagated without GradScaler's loss scale, beside another of the same weights with it.",
            "The printed loss of the one falls, and that of the other does not, as if it were not trained.",
            "In every update, a parameter gets a gradient from a loss that scaler.scale() multiplied, and one from a "
            "loss that it did not, before GradScaler divides their sum.",
            "Call scaler.scale(loss).backward() for each loss, or once for their sum.",
        ),
        clip_without_effect=(
            "Gradients are clipped after the step and before the next backward(), so the step gets them unclipped.",
            "The loss spikes although the gradients are clipped.",
            "In every update, all clipping happens before the first backward().",
            "Clip between backward() and step().",
        ),
        accumulation_not_divided=(
            "The mean losses of several micro-batches are added up, not averaged.",
            "A larger number of accumulation steps acts like a larger learning rate.",
            "Several backward calls of the same line per step, on different rows; each starts from the mean that "
            "torch's loss function returned, or the weights of its targets, read off the gradient with respect to the "
            "logits, add up to one. A hint where the optimizer divides by the gradient's size and nothing is clipped, "
            "or where each mean is divided by a smaller number than that of the micro-batches, or by its square.",
            "Divide each loss by the number of micro-batches, or sum the losses and divide by the number of targets: "
            "in a Trainer of transformers, by num_items_in_batch.",
        ),
        gradient_not_finite=(
            "The loss is finite, but its gradient is infinite or NaN.",
            "All weights are NaN after the first step.",
            "The gradients that the first step receives, or that GradScaler skips steps down to a loss scale of 1.",
            "Between the named module and the loss, look for a division by zero, the square root or logarithm of zero, "
            "or rows whose attention is masked everywhere.",
        ),
        weights_never_move=(
            "Parameters get a gradient, but no step changes them.",
            "They keep their initial values.",
            "At least ten updates with a gradient and a rate above zero leave them equal to the last bit. A finding if "
            "it holds for more than half of the parameters, otherwise a hint.",
            "Check the learning rate of their group; keep weights in float32 and use autocast for bfloat16.",
        ),
        updates_lost=(
            "The weights are in bfloat16 or float16, and most updates are too small for their digits.",
            "The loss falls slower and slower, or not at all, at a rate that works in float32.",
            "Up to twelve steps are repeated in float32 on a copy: more than half of the changes, by number and by "
            "sum, leave the weight as it was, and small changes are lost without exception, unlike with stochastic "
            "rounding or a copy in float32.",
            "Keep the weights in float32 and use autocast, or let the optimizer keep a copy in float32.",
        ),
        stale_buffers=(
            "An averaged copy of the model (EMA, SWA) follows its parameters but keeps the buffers of its start.",
            "The copy is as bad as chance in evaluation, although the model is good.",
            "A module with the model's structure whose parameters move with the model's, and whose buffers stay the "
            "same while the model's change. A finding if it was evaluated with them, else a hint.",
            "Copy the buffers, too; or call torch.optim.swa_utils.update_bn before the evaluation.",
        ),
        average_of_itself=(
            "An average of the weights (EMA) is the model itself: `ema = model` makes no copy.",
            "The average and the model always have the same loss.",
            "A trained weight is averaged with itself in place: lerp_ with the same tensor, or mul_ with d and then "
            "add_ of (1 − d) times the same tensor.",
            "Make the average from a copy: ema = copy.deepcopy(model).",
        ),
        trained_reference=(
            "The reference model of a loss of preferences, such as DPO, is trained together with the model.",
            "The loss falls fast, and the model has hardly changed or has left what it could before.",
            "The optimizers hold two models of one kind, and at every target the gradients of the loss with respect to "
            "their logits are those of a cross-entropy with opposite weights: the loss depends on the ratio of their "
            "probabilities. A finding if one is in evaluation mode while the other trains, a hint if they have the "
            "same initial weights.",
            "Call the reference under torch.no_grad(), and keep its parameters out of the optimizer.",
        ),
        state_carried=(
            "A recurrent state is carried from batch to batch, although the batches are unrelated rows.",
            "The model is worse than one that starts each batch from zero, and its output depends on earlier batches.",
            "A state that a call returns is an input of a call of a later update. A finding if a shuffling DataLoader "
            "gave another batch between, or if rows do not begin with the token that ended the same row before; a hint "
            "if neither is known.",
            "Start each batch from a zero state.",
        ),
        train_mode_in_evaluation=(
            "The model is evaluated in training mode, although it has dropout or batch normalization.",
            "The validation loss is too high and changes from one evaluation to the next.",
            "All calls without gradients between updates, on rows that are not trained on, run in training mode.",
            "Call model.eval() before an evaluation, and model.train() after it.",
        ),
        lr_zero=(
            "The learning rate is zero in every update, or in the first ten and more.",
            "The loss does not change.",
            "The rates of all parameter groups at every step.",
            "Check that the warm-up counts steps, and that scheduler.step() is called once per optimizer step.",
        ),
        lr_schedule=(
            "The schedule of the learning rate does not fit the loop: its rate is zero or negative before the end, a "
            "tiny fraction of what is meant, or it counts epochs where the loop counts updates.",
            "The loss barely moves, stops falling, or rises again, long before the end.",
            "The rates at the steps of the loop, or of up to fifty rehearsed updates. A negative rate is a finding; "
            "zero alone may be the end of a short training, so in a rehearsal it is a hint unless the scheduler steps "
            "several times per update. The functions of LambdaLR are called: none of their factors exceeds 0.05. A "
            "warm-up that advances once an epoch and leaves the rate at 0, would take 50 epochs or more, or belongs to "
            "a schedule as long as several epochs of updates. Milestones of epochs that pass within the first one.",
            "Return a factor in LambdaLR; call scheduler.step() once for what the schedule counts, and never let the "
            "rate fall below zero.",
        ),
        schedule_before_step=(
            "The learning rate scheduler steps before the optimizer.",
            "The first value of the schedule is skipped.",
            "The order of the calls in the first update.",
            "Call scheduler.step() after optimizer.step().",
        ),
        decayed_norms=(
            "Weight decay of 0.1 or more also applies to the scales of normalization layers.",
            "Slightly worse results than with the usual recipes.",
            "The parameter groups of the optimizer. Only a hint.",
            "Put parameters with fewer than two dimensions into a group with weight_decay=0.",
        ),
        weight_decay_too_high=(
            "Weight decay shrinks the weights faster than they learn.",
            "The loss returns to ln V.",
            "lr × weight decay is above 0.1; 1e-5 is typical.",
            "Use a weight decay of 0 to 0.1.",
        ),
        lr_too_high=(
            "The learning rate is too high.",
            "The loss rises, oscillates or becomes NaN.",
            "Forty updates on two rows, then the same at six other rates. If the loop's own loss does not fall, or "
            "rests at that of a constant prediction: whether as many updates on four batches of the loop learn more at "
            "lower rates, also for other batches.",
            "Take the rate that worked best, then halve or double it.",
        ),
        lr_too_low=(
            "The learning rate is too low.",
            "The loss barely moves.",
            "Forty updates on two rows, then the same at six other rates.",
            "Take the rate that worked best, then halve or double it.",
        ),
        loss_not_finite=(
            "The loss of the loop is infinite or NaN.",
            "The printed loss is inf or nan. After a step with NaN every weight is NaN.",
            "The losses that backward() got, also in steps that GradScaler skipped: the last ones, or half of them, "
            "are not finite. Fewer are not reported.",
            "Look for the logarithm or square root of a number that is not positive, a division by zero, a mean over "
            "no element, or a target whose score is -inf; if it begins later, for a learning rate that is too high.",
        ),
        loss_not_falling=(
            "The loss of the loop does not fall while it is recorded, or is the same number for all batches.",
            "The printed loss stays where it began, or at the loss of a model that only knows how frequent each class "
            "is.",
            "The mean of the first tenth of the losses is compared with that of the last tenth, in units of their "
            "noise; of a classifier, the last quarter with the loss of the best constant prediction; of a language "
            "model, too, if a lower rate memorizes four batches and the loop's own does not. Or ten losses of "
            "different batches are equal. Always a hint.",
            "Check that inputs and targets belong together, that the inputs have a mean of about 0 and a deviation of "
            "about 1, and try learning rates ten times higher and lower.",
        ),
        loss_unbounded=(
            "The loss of the loop falls below zero, faster and faster.",
            "The loss becomes a huge negative number, and outputs or samples are useless.",
            "The size of the last losses, against the first one, and whether the fall gets faster. Always a hint.",
            "Look for a term with the wrong sign, such as the KL divergence of a VAE, or one that nothing bounds.",
        ),
        optimizer_rebuilt=(
            "The loop creates a new optimizer for every update.",
            "Training is slower than it should be; Adam acts like sign descent, momentum does nothing.",
            "Optimizers over the same weights are created between the steps.",
            "Create the optimizer once, before the loop; to change a rate, set it in optimizer.param_groups.",
        ),
        scaler_rebuilt=(
            "The loop creates a new GradScaler for every update, so the loss scale never adapts.",
            "Gradients that overflow at the initial scale make GradScaler skip every step.",
            "The steps of one optimizer are made by another GradScaler each time.",
            "Create the GradScaler once, before the loop.",
        ),
        cannot_overfit=(
            "The model cannot memorize two rows at any learning rate.",
            "No setting helps.",
            "Up to 200 updates on two rows at six rates.",
            "Check everything between the input and the loss: shapes, masks, detached tensors, and the targets.",
        ),
        other_loss=(
            "The update does not follow the gradient of the loss that is stated.",
            "The loss that is printed does not fall as the one that is trained.",
            "Both gradients are compared without dropout: in 26 healthy programs the cosine is at least 0.9999.",
            "State the loss that the update computes, or look for what the update does to logits and targets.",
        ),
    ),
    *_entries(
        "monitors",
        diverging=(
            "The loss is rising.",
            "The average loss is well above its lowest value.",
            "The running average during training.",
            "Lower the learning rate, or clip the gradients.",
        ),
        dying_relus=(
            "Units of the feed-forward layers stop firing.",
            "The loss stops falling while more units die.",
            "The share of dead units during training.",
            "Lower the learning rate, or use GELU.",
        ),
        data_starvation=(
            "Training waits for data.",
            "Steps take longer than their compute.",
            "The time that steps wait for a batch.",
            "Load in parallel, or prepare the data once.",
        ),
        nothing_learned=(
            "The loss stays at ln V.",
            "A flat curve.",
            "The running average after many steps.",
            "Run the doctor on the program.",
        ),
        overfitting=(
            "Validation loss rises while training loss falls.",
            "The curves part.",
            "The last evaluations during training.",
            "Stop early, add dropout or data, or use a smaller model.",
        ),
    ),
]
CATALOG: dict[str, Entry] = {entry.code: entry for entry in _ALL}


def markdown() -> str:
    """Return all codes as Markdown tables, one for each section."""
    titles = {"data": "Data", "model": "Model", "loss": "Loss", "training": "Training", "monitors": "While it trains"}
    lines: list[str] = []
    for section in SECTIONS:
        lines += [
            f"### {titles[section]}",
            "",
            "| code | what is wrong | how the doctor decides | fix |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| `{entry.code}` | {entry.meaning} | {entry.test} | {entry.fix} |"
            for entry in CATALOG.values()
            if entry.section == section
        ]
        lines.append("")
    return "\n".join(lines)
