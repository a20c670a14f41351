"use strict";
// Rule 3: one subordinate clause in a sentence. It is counted by its signs, so this is a warning.

const { rule } = require("./sentences.js");

const SUBORDINATE =
  /\b(which|whose|whom|who|what|whatever|whether|where|when|while|because|since|unless|until|although|though|if|as if|so that|in which|that(?= (?:is|are|was|were|has|have|had|can|may|it|they|the|a|an|no|its|[a-z]+s)\b))\b/gi;

module.exports = rule(({ text }, report, { maxWords = 32, maxClauses = 2, maxBreaks = 4 }) => {
  const prose = text.replace(/\([^()]*\)/g, ""); // a parenthesis is a remark of its own
  const words = prose.split(/\s+/).filter((word) => /\w/.test(word)).length;
  const clauses = prose.match(SUBORDINATE)?.length ?? 0;
  const breaks = prose.match(/[,;:](?=\s)/g)?.length ?? 0;
  if (words > maxWords) {
    report(0, 1, `a sentence of ${words} words: ${maxWords} are enough; make two of it`);
  } else if (clauses > maxClauses) {
    report(0, 1, `${clauses} subordinate clauses in a sentence: one is enough; make two sentences of it`);
  } else if (breaks > maxBreaks && clauses > 0) {
    report(0, 1, `a sentence in ${breaks + 1} parts: make two of it, or a list`);
  }
});
