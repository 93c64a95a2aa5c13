"""The words of a report's page, as templates, and the style of its table of trials. `page.py` fills in every `$name`."""

from __future__ import annotations

from string import Template

from fbnetv3.pages.markup import STYLE

PARTS_HEAD = ("part", "all candidates", "better half", "what it is")
WISHES_HEAD = ("recipe", "small networks", "large networks", "difference")
FOUND = Template("""
<h2>What the search found about the space</h2>
<p>These are statements of the predictor after it had learnt all trials, about candidates inside the constraint. Intervals hold
90% of what it believes possible. Without pretraining, it explains $explained of the variance of trials that it has not
seen.</p>
<h3>What the accuracy depends on</h3>
$parts
<p>$summary</p>
<p class="note">Shares of the variance of accuracy, over all architectures with all recipes, each equally likely. In the better
half, a candidate below the median counts as the median, and noise is left out: this is what makes good candidates better.</p>
$parts_plot
$joint
$importance
""")
JOINT = Template("""
<h3>Which recipe small and large networks want</h3>
<p>Small networks have at most $small $metric, a third of the candidates. Large ones have $large or more, another third.</p>
$wishes
<p class="note">The values with the highest predicted accuracy, all else equal, and in how many draws from what the predictor
believes one of them is the best. A preference or a difference is clear from $sure on.$factor</p>
$wishes_plot
<h3>Does an architecture need its own recipe?</h3>
<ul>
<li>With the recipe that is best for large networks, small ones lose $swap_small (Table 6). With the best recipe for small
networks, large ones lose $swap_large.</li>
<li>Of two random architectures, the other one is better in $flips_recipes of the cases if another good recipe is used (Table 1;
Kendall&rsquo;s tau $tau). With the same recipe and another seed, the other one is measured to be better in $flips_seeds.</li>
</ul>
""")
FACTOR = Template(" With SGD, the learning rate is $factor times as large.")

ROUNDS = (
    "round",
    "trainings",
    "epochs",
    "diverged",
    "failed",
    "best",
    "median",
    "mean predicted",
    "rank corr.",
    "mean error",
)

CHOSEN = {
    True: "The highlighted one is the pair of this page.",
    False: "None of them is the pair of this page: after these trainings, another trial has the highest predicted score.",
}
FINALIST_HEAD = ("finalist", "predicted", "measured, same epochs", "off by", "measured, all epochs")
FINALISTS = Template("""
<h2>Finalists</h2>
<p>An evolution finds candidates for which the predictor is too optimistic, as well as good ones. Therefore the candidates
with the highest predicted scores were trained before the pair was chosen. $chosen</p>
$table
<p class="note">&ldquo;Off by&rdquo; is the distance from the predicted to the measured accuracy after the same epochs, in
predicted standard deviations.</p>
""")
CALIBRATION = Template("""
<p>Were the predicted intervals right? Of $trials with a prediction, $inside came out inside the interval that should hold
$levels of them.</p>
""")

LONE = """
<p>There was only one round. The predictor learns from measured trials, so no trial had a prediction to compare with. The
pair was still chosen by prediction.</p>
"""

ASYNCHRONOUS = Template("""
<p>This search was asynchronous: after round 1 it trained $at_once at a time and proposed the next one whenever a training
ended, from the trainings that had ended until then. So a later round is no batch here. It has the next proposals in their
order.</p>
""")

FAILURES = Template("""
<h3>Errors</h3>
<p>The different errors of failed trainings, the first of each kind:</p>
<ul>$rows</ul>
""")

ADVICE = Template("""
<h2>For the next search</h2>
<ul>$rows</ul>
""")

TRIALS = Template("""
<h2>All trials</h2>
<div class="scroll"><table class="numbers trials" id="trials">
<thead><tr>$head</tr></thead>
$rows
</table></div>
<p class="note">Accuracies are validation accuracies after $epochs. &ldquo;Predicted before&rdquo; is what the predictor
expected of the training before it, with the interval that should hold 90%.$believed The highlighted candidate is the pair of
this page.</p>
""")
BELIEVED = (
    " \u201cBelieved\u201d is what it believes of the candidate after all trainings, without the noise of one, with the same "
    "kind of interval."
)

PAIRS = Template("""
<h2>All returned pairs</h2>
$table
<p class="note">&ldquo;Predicted&rdquo; is the validation accuracy after $epochs that was predicted when the pair was
chosen. &ldquo;Measured&rdquo; is the accuracy after the final training, with
the 95% interval by the choice of images alone, &ldquo;-&rdquo; if there was none. Pairs of budgets
come from <code>fbnetv3 search budgets</code>; their files are in <code>budgets/</code>.</p>
<h3>Their recipes</h3>
$recipes
<p class="note">The searched fields, with the values that were trained.</p>
""")

VERSUS = Template("""
<p>For comparison, $other also trained $candidates inside the constraint. It took $epochs epochs in all; NARS took $own.
Its best candidate got the same final training and classifies $acc1% of the $split images correctly, which is $gap NARS. This
is one run of each method. $noise, so the difference does not show that one method is better.</p>
""")
CONFIRM = """
<p class="note">Each accuracy is of one training. <code>fbnetv3 search confirm DIR</code> repeats the trainings with other
seeds, and says how sure the accuracies and their differences are.</p>
"""
GAINS = Template("""
<p>Compared with other answers, trained with the same seeds for as many epochs:</p>
<ul>$rows</ul>
<p class="note">The intervals are about these answers: another search may find a better or a worse one. All answers are taken
to vary equally with the seed.</p>
""")
GAIN = Template("<li><b>$gap</b> $other$interval.$verdict</li>")
RIVAL = Template("the answer of $other, which trained $candidates too")
BASE_RECIPE = Template("the same network with the recipe that the search began with, $base")
UNCLEAR = " These trainings do not show a difference."

FOUND_PAIR = Template("""
<p class="lead">NARS found a network with $flops FLOPs and $params parameters, and a recipe for it. $outcome</p>
""")
OUTCOME = {
    "test": Template(
        "Trained for $final, it classifies <b>$acc1</b> of the $images correctly$sure. No earlier step had used them."
    ),
    "val": Template(
        "Trained for $final, it classifies <b>$acc1</b> of the $images correctly$sure. This data has no test images, and the "
        "search has used the validation images."
    ),
    "": Template("It had no final training here."),
}
BY_IMAGES = Template(" (95% interval $low% to $high%, by the choice of images alone; other seeds add to it)")
EXTENDED = Template(" The search was extended after its end, by $trainings trainings.")
COST = Template(" Its trainings took $seconds in all$device$others.")
COST_OTHER = Template("; those of $other $seconds")
WALL = Template(" The wall clock of the whole search is $wall$sessions.")
SURE = Template(", the mean of $seeds with different seeds$interval")
CHOSEN_BY = Template("""
<p>When the pair was chosen, its predicted validation accuracy after $epochs was $mean%, with a standard deviation of $std
points. $apart</p>
""")
UNFINISHED = Template("""
<p class="lead"><b>This search has not ended.</b> This page is about its trainings so far, and it is renewed while the search
runs: reload it. Wherever it speaks of the pair or the answer, it means the best candidate so far.</p>
$status
""")
UNFINISHED_PAIR = Template("""
<p>The candidate with the highest validation accuracy so far, $best% after $epochs. The highest of many noisy accuracies is too
high. The search may choose another candidate, and then it trains that once more.</p>
""")
UNFINISHED_FINDINGS = """
<p class="note">What the trials tell about the space is left out until the search has ended, because it takes a while. <code>
fbnetv3 search importance DIR</code> says it now, and <code>fbnetv3 search top DIR</code> what the predictor believes of the
best candidates.</p>
"""
UNFINISHED_USE = "<p>Its pair file and its weights come with the end of the search.</p>"

APART = {
    "test": Template(
        "This is not comparable with the test accuracy above: that is for $final of training and other images."
    ),
    "val": Template("This is not comparable with the accuracy above, which is for $final of training."),
    "": Template("The pair was not measured after a complete training."),
}
NOISE = Template(
    "The choice of $images $split images alone gives an accuracy a standard error of about $error points, and seeds add to it"
)
NOISE_UNKNOWN = Template("The choice of images and the seeds also make accuracies differ")
UNBIASED = {
    "test": Template(
        "Only the test accuracy is unbiased: each method used the test images once, after everything was chosen."
    ),
    "val": Template("The accuracy of the final training is one of them."),
    "": Template(""),
}
SUBSET = Template("""
<li>The data is a subset of $images images ($train for training, $val for validation, $test for testing). No accuracy here
is comparable with one that was published for the full data set.</li>
""")
RETRAIN = Template("""
<p>To train the pair, in the folder of this page:</p>
<pre>fbnetv3 train --pair pair.yaml$named_data --out retrained</pre>
""")
USE = Template("""
<p>In the folder of this page, you can train the pair again, or classify an image with the weights that were measured here.</p>
<pre>fbnetv3 train --pair pair.yaml --out retrained
fbnetv3 predict IMAGE --pair pair.yaml --weights weights.pt</pre>
""")

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '$script_hash'">
<title>Search report: $name$unfinished</title>
<style>$css</style>
</head>
<body>
<main>
<h1>Search report: $name$unfinished</h1>
<p class="note">$about</p>
$outcome
$outcome_plot
<p>It searched the space $space ($archs architectures, each with any of $recipes training recipes) for the pair with the
highest accuracy on $data, with $limit $metric in the convention &ldquo;$convention&rdquo;, and trained $candidates
($spent).$extended$cost</p>
$advice

<h2>The search</h2>
$search
$trials
<h2>Round by round</h2>
$rounds
<p class="note">All accuracies are validation accuracies after $epochs, so that rows are comparable. The rank correlation
(Spearman) and the mean absolute error, in points, compare predicted with measured accuracy. A training diverged if its loss
was not finite; it failed if an error ended it or its worker was lost. Both are only counted.$repeats</p>
$asynchronous
$failures
$lone
$finalists
$calibration

<h2>The pair</h2>
$chosen
<h3>Architecture</h3>
$arch
<p class="note">For images of $resolution &times; $resolution pixels. k: kernel; e: expansion; c: output channels; n: number
of blocks; s: stride of the first block; se: squeeze-and-excitation. conv: convolution; ir: inverted residual; pool: pooling
head before the classifier.</p>
<h3>Recipe</h3>
$recipe
<p class="note">Highlighted fields were searched. The others come from the base recipe $base.</p>

$pairs
$findings
<h2>The predictor and early stopping</h2>
$knowledge
<h2>The final training</h2>
$final_plot

<h2>How to read this, and what it is not</h2>
<ul>
<li>The validation accuracies guided the search, and the best of many noisy values is too high on average. $unbiased</li>
<li>Accuracies of trials are accuracies after $epochs. They rank candidates, and they are not comparable with those of longer
trainings.</li>
$subset
<li>One search is one sample: another seed may find a better or a worse pair. The same seed and the same versions on the
same kind of machine find this pair again$unless.</li>
</ul>
<h3>Use the pair</h3>
$use
<h3>Seeds and versions</h3>
$made
</main>
<script>$script</script>
</body>
</html>
""")

CSS = (
    STYLE
    + """.trials :is(th, td) { text-align: right }
.trials .more td { padding: 0 .55rem .3rem; text-align: left; white-space: normal; color: var(--dim); font-size: .8rem }
.trials .more p { margin: .2rem 0; overflow-wrap: anywhere }
.trials button { border: 0; padding: 0; background: none; color: inherit; font: inherit; cursor: pointer; text-align: inherit }
.trials td button { text-decoration: underline dotted }
[aria-sort=ascending] button::after { content: " \u2191" }
[aria-sort=descending] button::after { content: " \u2193" }
.filter input { width: min(24rem, 70%); padding: .3rem .5rem; font: inherit }
"""
)
